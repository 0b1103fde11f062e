"""Train the transformer, resumable: `python train_transformer.py --config configs/cpu.json --tokens DIR --tokenizer DIR
--out DIR [--minutes M]`.

A Hugging Face Qwen2 decoder over `<|t2i|>` prefix caption `<|soi|>` and the image tokens in raster order, one caption in
ten dropped (arXiv 2504.11455). Matrices are trained by Muon, everything else by AdamW; the learning rate is constant
and falls to zero over the last part of the time given, so that an interrupted run resumes where it was.
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

from muon import Muon

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def build(config, text_tokens, codebook_size):
    return Qwen2ForCausalLM(Qwen2Config(
        vocab_size=text_tokens + codebook_size, hidden_size=config["hiddenSize"],
        intermediate_size=config["intermediateSize"], num_hidden_layers=config["layers"],
        num_attention_heads=config["heads"], num_key_value_heads=config["keyValueHeads"],
        max_position_embeddings=config["maxPositions"], tie_word_embeddings=True, bos_token_id=None, eos_token_id=None,
        use_cache=False, attn_implementation="sdpa"))


class Batches:
    """Sequences of text then image, short ones padded at the end where a causal model cannot see them."""

    def __init__(self, folder, offset, dropped, config):
        self.image = np.load(folder / "image.npy")
        self.text = np.load(folder / "text.npy")
        self.lengths = np.load(folder / "text_lengths.npy")
        self.offset, self.dropped, self.config = offset, dropped, config

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

    def order(self, share):
        """Scenes to draw from: the first chapters until `firstChapters` of the time has gone, then all of them."""
        first = self.config["firstScenes"]
        usable = len(self.image) - self.config["heldOutScenes"]
        return first if share < self.config["firstShare"] else usable


def losses(model, batch, codebook_size):
    """Cross-entropy per image token in nats, over the image tokens only. [B, N]"""
    ids, where, targets = batch
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
    picked = hidden.gather(1, where[..., None].expand(-1, -1, hidden.shape[-1]))
    logits = picked @ model.lm_head.weight[-codebook_size:].T
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none").view_as(targets)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", required=True)
    parser.add_argument("--tokens", required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--minutes", type=float, help="overrides the configured length")
    args = parser.parse_args()
    whole = json.loads(Path(args.config).read_text())
    config = whole["transformer"]
    codebook_size = int(np.prod(whole["codec"]["levels"]))
    tokenizer = Tokenizer.from_file(str(Path(args.tokenizer) / "tokenizer.json"))
    offset = tokenizer.get_vocab_size()
    dropped = np.array(tokenizer.encode(config["unconditionalPrompt"], add_special_tokens=False).ids)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(config["seed"])
    model = build(config, offset, codebook_size).to(DEVICE)
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    muon = Muon(matrices, lr=config["muonLr"], weight_decay=config["weightDecay"])
    adamw = torch.optim.AdamW(others, lr=config["adamLr"], betas=(0.9, 0.95), weight_decay=0.0)
    optimizers = [(muon, config["muonLr"]), (adamw, config["adamLr"])]
    seen, seconds_before, log = 0, 0.0, []
    if (out / "training.pt").exists():
        saved = torch.load(out / "training.pt", map_location=DEVICE, weights_only=False)
        model.load_state_dict(saved["model"])
        if "muon" in saved:
            muon.load_state_dict(saved["muon"]), adamw.load_state_dict(saved["adamw"])
        seen, seconds_before, log = saved["seen"], saved["seconds"], saved["log"]
    batches = Batches(Path(args.tokens), offset, dropped, config)
    rng = np.random.default_rng(config["seed"] + seen)
    held = np.arange(len(batches.image) - 96, len(batches.image))
    total = 60 * (args.minutes or config["minutes"])
    started = reported = saved_at = time.time()
    window = []

    def save():
        torch.save({"model": model.state_dict(), "muon": muon.state_dict(), "adamw": adamw.state_dict(), "seen": seen,
                    "seconds": seconds_before + time.time() - started, "log": log}, out / "training.tmp")
        (out / "training.tmp").rename(out / "training.pt")

    while (share := (seconds_before + time.time() - started) / total) < 1:
        rate = min(1, (seen + config["batch"]) / config["warmupSequences"]) * min(1, (1 - share) / config["decayShare"])
        for optimizer, lr in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr * rate
        scenes = rng.integers(0, batches.order(share), config["batch"])
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=config["bf16"]):
            loss = losses(model, batches.next(scenes, rng), codebook_size).mean()
        for optimizer, _ in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, _ in optimizers:
            optimizer.step()
        seen += len(scenes)
        window.append(loss.item())
        now = time.time()
        if now - reported > config["reportSeconds"]:
            with torch.no_grad():
                same_captions = np.random.default_rng(0)
                held_loss = losses(model, batches.next(held, same_captions), codebook_size).mean().item()
            row = {"sequences": seen, "seconds": round(seconds_before + now - started), "loss": round(float(np.mean(window)), 4),
                   "heldOutLoss": round(held_loss, 4), "perSecond": round(len(window) * config["batch"] / (now - reported), 1)}
            log.append(row)
            print(json.dumps(row), flush=True)
            window, reported = [], time.time()
            if now - saved_at > config["saveSeconds"]:
                save()
                saved_at = now
    save()
    model.save_pretrained(out, safe_serialization=True)


if __name__ == "__main__":
    main()
