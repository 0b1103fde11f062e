"""Make a trained transformer deeper without changing what it computes:
`python grow_transformer.py --from DIR --config configs/cpu.json --tokenizer DIR --out DIR [--tokens-before DIR --tokens-after DIR]`.

New layers are copies of their neighbours below whose output projections are zero, so that each begins as the identity and
learns from there (as in net2net, Chen et al. 2016, arXiv 1511.05641). Writes a checkpoint that `train_transformer.py`
takes up, with fresh optimiser state.

If the codec has changed, the same scenes as tokens of both codecs tell which old tokens a new one stands for: its
embedding begins as their mean, weighted by how often they lie at the same place.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import Qwen2ForCausalLM

from train_transformer import build


def sources(old_layers, new_layers):
    """For each new layer the old one it is taken from, and whether it is the first of its copies. Ascending."""
    taken = [index * old_layers // new_layers for index in range(new_layers)]
    return [(old, index == 0 or taken[index - 1] != old) for index, old in enumerate(taken)]


def carried_over(embeddings, before, after):
    """Image token embeddings [V, D] for a new codec, from tokens of equal scenes [N, T] by the old and by the new one."""
    size = len(embeddings)
    pairs = before.astype(np.int64).ravel() * size + after.astype(np.int64).ravel()
    counts = np.bincount(pairs, minlength=size * size).reshape(size, size)
    shares = torch.from_numpy(counts / np.maximum(1, counts.sum(0, keepdims=True))).float()
    return torch.where(shares.sum(0)[:, None] > 0, shares.T @ embeddings, embeddings.mean(0))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--from", dest="source", required=True)
    for name in ("config", "tokenizer", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--tokens-before")
    parser.add_argument("--tokens-after")
    args = parser.parse_args()
    whole = json.loads(Path(args.config).read_text())
    offset = Tokenizer.from_file(str(Path(args.tokenizer) / "tokenizer.json")).get_vocab_size()
    old = Qwen2ForCausalLM.from_pretrained(args.source, dtype=torch.float32)
    new = build(whole["transformer"], offset, int(np.prod(whole["codec"]["levels"])))
    new.model.embed_tokens.load_state_dict(old.model.embed_tokens.state_dict())
    new.model.norm.load_state_dict(old.model.norm.state_dict())
    with torch.no_grad():
        for layer, (index, is_first) in zip(new.model.layers, sources(len(old.model.layers), len(new.model.layers))):
            layer.load_state_dict(old.model.layers[index].state_dict())
            if not is_first:
                layer.self_attn.o_proj.weight.zero_()
                layer.mlp.down_proj.weight.zero_()
        ids = torch.arange(64).view(1, -1)
        difference = (old(ids).logits - new(ids).logits).abs().max().item()
    assert difference < 1e-3, f"the deeper model differs by {difference}"
    if args.tokens_before:
        before, after = (np.load(Path(folder) / "image.npy") for folder in (args.tokens_before, args.tokens_after))
        with torch.no_grad():
            table = new.model.embed_tokens.weight
            table[offset:] = carried_over(table[offset:].clone(), before, after)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    torch.save({"model": new.state_dict(), "seen": 0, "seconds": 0.0, "log": []}, out / "training.pt")
    print(json.dumps({"layers": len(new.model.layers), "parameters": sum(p.numel() for p in new.parameters()), "difference": difference}))


if __name__ == "__main__":
    main()
