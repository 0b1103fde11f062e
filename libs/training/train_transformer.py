"""Train the transformer, resumable:

    python train_transformer.py --config configs/cpu.json --tokens DIR --tokenizer DIR --out DIR [--minutes M]
    python train_transformer.py ... --out DIR2 --from DIR --selection DIR/selection.npz

The second line is supervised fine-tuning (SFT): it begins with the weights of `--from`, draws only from the scenes that
`select_scenes.py` chose, and takes its length and learning rates from the configuration's `sft`.

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
        known = np.searchsorted(self.scenes, self.config["firstScenes"]) if share < self.config["firstShare"] else len(self.scenes)
        return self.scenes[rng.integers(0, known, self.config["batch"])]


def losses(model, batch, codebook_size):
    """Cross-entropy per image token in nats, over the image tokens only. [B, N]"""
    ids, where, targets = batch
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
    picked = hidden.gather(1, where[..., None].expand(-1, -1, hidden.shape[-1]))
    logits = picked @ model.lm_head.weight[-codebook_size:].T
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="none").view_as(targets)


class Training:
    """Model, optimisers and curves of one stage, as they are saved and taken up again.

    Rows of the log say their stage, and `sequences` counts on from one stage to the next; `seen` and `seconds` are this stage's own.
    """

    def __init__(self, stage, config, text_tokens, codebook_size, out, source=None):
        torch.manual_seed(config["seed"])
        self.stage, self.config, self.path = stage, config, Path(out) / "training.pt"
        self.model = build(config, text_tokens, codebook_size).to(DEVICE)
        matrices = [p for name, p in self.model.named_parameters() if p.ndim == 2 and "embed" not in name]
        others = [p for name, p in self.model.named_parameters() if p.ndim != 2 or "embed" in name]
        self.muon = Muon(matrices, lr=config["muonLr"], weight_decay=config["weightDecay"])
        self.adamw = torch.optim.AdamW(others, lr=config["adamLr"], betas=(0.9, 0.95), weight_decay=0.0)
        self.seen, self.seconds, self.log = 0, 0.0, []
        if self.path.exists():
            saved = self.load(self.path)
            self.seen, self.seconds = saved["seen"], saved["seconds"]
            if "muon" in saved:
                self.muon.load_state_dict(saved["muon"]), self.adamw.load_state_dict(saved["adamw"])
        elif source is not None:
            self.load(Path(source) / "training.pt")
        self.before = max((row["sequences"] for row in self.log if row.get("stage", "pretrain") != stage), default=0)

    def load(self, path):
        saved = torch.load(path, map_location=DEVICE, weights_only=False)
        self.model.load_state_dict(saved["model"])
        self.log = saved["log"]
        return saved

    def step(self, loss, rate, size):
        """One step down `loss` over `size` sequences at `rate` times the configured learning rates."""
        for optimizer, lr in ((self.muon, self.config["muonLr"]), (self.adamw, self.config["adamLr"])):
            for group in optimizer.param_groups:
                group["lr"] = lr * rate
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.muon.step(), self.adamw.step()
        self.seen += size

    def record(self, row):
        self.log.append({"stage": self.stage, "sequences": self.before + self.seen, **row})
        print(json.dumps(self.log[-1]), flush=True)

    def save(self, seconds):
        torch.save({"model": self.model.state_dict(), "muon": self.muon.state_dict(), "adamw": self.adamw.state_dict(),
                    "seen": self.seen, "seconds": seconds, "log": self.log}, self.path.with_suffix(".tmp"))
        self.path.with_suffix(".tmp").rename(self.path)


def train(training, batches, codebook_size, minutes):
    """Learn until `minutes` of this stage have gone, earlier runs counted."""
    config, rng = training.config, np.random.default_rng(training.config["seed"] + training.seen)
    started = reported = saved_at = time.time()
    seconds = lambda: training.seconds + time.time() - started
    window = []

    def held_out_loss():
        with torch.no_grad():
            return losses(training.model, batches.next(batches.held_out, np.random.default_rng(0)), codebook_size).mean().item()

    while (share := seconds() / (60 * minutes)) < 1:
        rate = min(1, (training.seen + config["batch"]) / config["warmupSequences"]) * min(1, (1 - share) / config["decayShare"])
        scenes = batches.pick(share, rng)
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=config["bf16"]):
            loss = losses(training.model, batches.next(scenes, rng), codebook_size).mean()
        training.step(loss, rate, len(scenes))
        window.append(loss.item())
        if (waited := time.time() - reported) > config["reportSeconds"]:
            training.record({"seconds": round(seconds()), "loss": round(float(np.mean(window)), 4),
                             "heldOutLoss": round(held_out_loss(), 4), "perSecond": round(len(window) * config["batch"] / waited, 1)})
            window, reported = [], time.time()
            if reported - saved_at > config["saveSeconds"]:
                training.save(seconds())
                saved_at = reported
    training.save(seconds())


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
    Path(args.out).mkdir(parents=True, exist_ok=True)
    training = Training("sft" if args.selection else "pretrain", config, offset, codebook_size, args.out, args.source)
    selection = np.load(args.selection) if args.selection else None
    batches = Batches(Path(args.tokens), offset, dropped, config, selection)
    train(training, batches, codebook_size, args.minutes or config["minutes"])
    training.model.save_pretrained(args.out, safe_serialization=True)


if __name__ == "__main__":
    main()
