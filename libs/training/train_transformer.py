"""Train the transformer, resumable:

    python train_transformer.py --config configs/cpu.json --tokens DIR --tokenizer DIR --out DIR [--minutes M]
    python train_transformer.py ... --out DIR2 --from DIR --selection DIR/selection.npz

The second line is supervised fine-tuning (SFT): it begins with the weights of `--from`, draws only from the scenes that
`select_scenes.py` chose, and takes its length and learning rates from the configuration's `sft`.

A Hugging Face Qwen2 decoder over `<|t2i|>` prefix caption `<|soi|>` and the image tokens in raster order, one caption in
ten dropped (arXiv 2504.11455).
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from transformers import Qwen2Config, Qwen2ForCausalLM

from training import DEVICE, Training


def build(config, text_tokens, codebook_size):
    return Qwen2ForCausalLM(Qwen2Config(
        vocab_size=text_tokens + codebook_size, hidden_size=config["hiddenSize"],
        intermediate_size=config["intermediateSize"], num_hidden_layers=config["layers"],
        num_attention_heads=config["heads"], num_key_value_heads=config["keyValueHeads"],
        max_position_embeddings=config["maxPositions"], tie_word_embeddings=True, bos_token_id=None, eos_token_id=None,
        use_cache=False, attn_implementation="sdpa"))


class Batches:
    """Sequences of text then image, short ones padded at the end where a causal model cannot see them."""

    def __init__(self, folder, offset, dropped, config, selection=None):
        self.image = np.load(folder / "image.npy")
        self.text = np.load(folder / "text.npy")
        self.lengths = np.load(folder / "text_lengths.npy")
        self.offset, self.dropped, self.config = offset, dropped, config
        usable = len(self.image) - config["heldOutScenes"]
        self.scenes = np.arange(usable) if selection is None else selection["scenes"]
        self.held_out = (np.arange(usable, len(self.image)) if selection is None else selection["held_out"])[-96:]

    def next(self, scenes, rng):
        """Scene numbers [B], captions picked by `rng` -> ids [B, T], positions of the logits that predict image tokens [B, N], targets [B, N]."""
        n = self.image.shape[1]
        texts = []
        for scene in scenes:
            if rng.random() < self.config["dropPrompt"]:
                texts.append(self.dropped)
            else:
                caption = rng.integers(self.lengths.shape[1])
                texts.append(self.text[scene, caption, : self.lengths[scene, caption]])
        longest = max(map(len, texts))
        ids = np.zeros((len(scenes), longest + n), dtype=np.int64)
        starts = np.array([len(text) for text in texts])
        for row, text, scene in zip(ids, texts, scenes):
            row[: len(text)] = text
            row[len(text) : len(text) + n] = self.image[scene].astype(np.int64) + self.offset
        where = starts[:, None] - 1 + np.arange(n)
        targets = self.image[scenes].astype(np.int64)
        return tuple(torch.from_numpy(part).to(DEVICE) for part in (ids[:, :-1], where, targets))

    def pick(self, share, rng):
        """Scene numbers [B]: from the first chapters until `firstShare` of the time has gone, then from all of them."""
        is_first = share < self.config["firstShare"]
        known = np.searchsorted(self.scenes, self.config["firstScenes"]) if is_first else len(self.scenes)
        return self.scenes[rng.integers(0, known, self.config["batch"])]


def losses(model, batch, codebook_size):
    """Cross-entropy per image token in nats, over the image tokens only. [B, N]"""
    ids, where, targets = batch
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
    picked = hidden.gather(1, where[..., None].expand(-1, -1, hidden.shape[-1]))
    logits = picked @ model.lm_head.weight[-codebook_size:].T
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none").view_as(targets)


def train(training, batches, codebook_size, minutes):
    """Learn until `minutes` of this stage have gone."""
    config, rng = training.config, np.random.default_rng(training.config["seed"] + training.seen)
    reported = saved_at = time.time()
    window = []

    def held_out_loss():
        with torch.no_grad():
            return losses(training.model, batches.next(batches.held_out, np.random.default_rng(0)), codebook_size).mean().item()

    while (share := training.seconds / (60 * minutes)) < 1:
        scenes = batches.pick(share, rng)
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=config["bf16"]):
            loss = losses(training.model, batches.next(scenes, rng), codebook_size).mean()
        training.step(loss, training.rate(share), len(scenes))
        window.append(loss.item())
        if (waited := time.time() - reported) > config["reportSeconds"]:
            training.record(loss=round(float(np.mean(window)), 4), heldOutLoss=round(held_out_loss(), 4),
                            perSecond=round(len(window) * config["batch"] / waited, 1))
            window, reported = [], time.time()
            if reported - saved_at > config["saveSeconds"]:
                training.save()
                saved_at = reported
    training.save()


def main():
    parser = argparse.ArgumentParser()
    for name in ("config", "tokens", "tokenizer", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--selection", help="what select_scenes.py wrote: fine-tune on it")
    parser.add_argument("--from", dest="source", help="the folder whose training.pt fine-tuning begins with")
    parser.add_argument("--minutes", type=float, help="overrides the configured length")
    args = parser.parse_args()
    if (args.selection is None) != (args.source is None):
        parser.error("--selection and --from come together")
    whole = json.loads(Path(args.config).read_text())
    config = {**whole["transformer"], **(whole["sft"] if args.selection else {})}
    codebook_size = int(np.prod(whole["codec"]["levels"]))
    tokenizer = Tokenizer.from_file(str(Path(args.tokenizer) / "tokenizer.json"))
    offset = tokenizer.get_vocab_size()
    dropped = np.array(tokenizer.encode(config["unconditionalPrompt"], add_special_tokens=False).ids)
    torch.manual_seed(config["seed"])
    training = Training("sft" if args.selection else "pretrain", config, build(config, offset, codebook_size), args.out, args.source)
    selection = np.load(args.selection) if args.selection else None
    batches = Batches(Path(args.tokens), offset, dropped, config, selection)
    train(training, batches, codebook_size, args.minutes or config["minutes"])
    training.model.save_pretrained(args.out, safe_serialization=True)


if __name__ == "__main__":
    main()
