"""Choose guidance scale, temperature, top-k and top-p, once, for a bundle's defaults, resumable:

    python sweep_sampling.py --config configs/cpu.json --tokens DIR --selection DIR/selection.npz --codec DIR --clip DIR
      --tokenizer DIR --transformer DIR --out sweep.json

Every setting draws the same number of images for the same captions of scenes that training never saw, and is scored by mini-CLIP,
the reward of training: the benchmark's judge must have nothing to do with any choice. The mean comes with its standard error
over captions, and beside it what the scenes' own reconstructions score (what can be reached) and the images of the last setting
with other captions (what says nothing). Settings of one setting's error cannot be told apart; the mildest of them is the better.
"""

import argparse
import itertools
import json
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from rollout import sample
from train_grpo import Prompts, Reward
from train_transformer import build
from training import DEVICE


def score(reward, groups, drawn):
    """Mean and standard error over captions [P] of the mean reward of their images."""
    means = torch.cat([reward(ids, part).mean(1) for ids, part in zip(groups, drawn)])
    return {"score": round(means.mean().item(), 4), "error": round((means.std() / len(means) ** 0.5).item(), 4)}


def main():
    parser = argparse.ArgumentParser()
    for name in ("config", "tokens", "selection", "codec", "clip", "tokenizer", "transformer", "out"):
        parser.add_argument(f"--{name}", required=True)
    args = parser.parse_args()
    whole = json.loads(Path(args.config).read_text())
    config, codebook_size = whole["sweep"], int(np.prod(whole["codec"]["levels"]))
    tokenizer = Tokenizer.from_file(str(Path(args.tokenizer) / "tokenizer.json"))
    model = build(whole["transformer"], tokenizer.get_vocab_size(), codebook_size).to(DEVICE).eval()
    model.load_state_dict(torch.load(Path(args.transformer) / "training.pt", map_location=DEVICE, weights_only=False)["model"])
    reward = Reward(whole, args.codec, args.clip, tokenizer.get_vocab_size())
    prompts = Prompts(Path(args.tokens), np.load(args.selection)["held_out"], config["prompts"])
    rng, image = np.random.default_rng(config["seed"]), np.load(Path(args.tokens) / "image.npy", mmap_mode="r")
    groups, scenes = zip(*(prompts.next(rng) for _ in range(config["groups"])))
    nothing = torch.tensor(tokenizer.encode(whole["transformer"]["unconditionalPrompt"], add_special_tokens=False).ids, device=DEVICE)

    out = Path(args.out)
    saved = json.loads(out.read_text()) if out.exists() else {}
    rows, last = saved.get("settings", []), saved.get("otherCaptions")
    keep = lambda **more: out.write_text(json.dumps({"settings": rows, **more}, indent=1) + "\n")
    for guidance, temperature, (top_k, top_p) in itertools.product(config["guidance"], config["temperature"], config["kept"]):
        setting = {"guidanceScale": guidance, "temperature": temperature, "topK": top_k, "topP": top_p}
        if any(setting.items() <= row.items() for row in rows):
            continue
        torch.manual_seed(config["seed"])
        drawn = [sample(model, ids, config["images"], image.shape[1], codebook_size, nothing, guidance, temperature, top_k, top_p)[0]
                 for ids in groups]
        rows.append({**setting, **score(reward, groups, drawn)})
        keep()
        print(json.dumps(rows[-1]), flush=True)
        last = score(reward, [ids.roll(1, 0) for ids in groups], drawn)
    kept = [torch.from_numpy(image[part].astype(np.int64)).to(DEVICE) for part in scenes]
    anchors = {"reconstructions": score(reward, groups, kept), "otherCaptions": last}
    keep(**anchors)
    print(json.dumps(anchors))


if __name__ == "__main__":
    main()
