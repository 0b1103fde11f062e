"""Draw pictures with a trained E-CAR or its baseline, without serving them:

    python draw_pictures.py --model ecar --config configs/cpu.json --training DIR --codec DIR --tokenizer DIR \
        --prompts prompts.txt --images 4 --guidance 3 --out pictures.u8
    npm run bench -- geneval --pictures pictures.u8

prompts.txt has a prompt on each line. Pictures are bytes [prompts * images, 96, 96, 3], resized where the model's differ.
`--stages` writes instead, for each picture, what it looked like after every stage: [pictures * stages, 96, 96, 3].
The same picture has the same noise whatever else is drawn.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from ecar_sampler import sample_dit, sample_ecar, unnormalise
from reconstruct import SIDE
from train_continuous_codec import build as build_codec
from train_ecar import DEVICE, load_trained

BATCH = 32


def encode(tokenizer, texts):
    """-> ids [B, P], lengths [B]."""
    rows = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    lengths = torch.tensor([len(row) for row in rows])
    ids = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)
    for place, row in zip(ids, rows):
        place[: len(row)] = torch.tensor(row)
    return ids.to(DEVICE), lengths.to(DEVICE)


def noise_of(numbers, channels, side, purpose):
    """White noise [B, C, side, side], the same for the same picture."""
    draws = [np.random.default_rng([number, purpose]).standard_normal((channels, side, side), np.float32) for number in numbers]
    return torch.from_numpy(np.stack(draws)).to(DEVICE)


class Drawing:
    def __init__(self, args):
        self.args, whole = args, json.loads(Path(args.config).read_text())
        self.recipe, self.text = whole["ecar"], whole["transformer"]
        self.model, self.config, _ = load_trained(args.model, args.training, self.recipe)
        self.tokenizer = Tokenizer.from_file(str(Path(args.tokenizer) / "tokenizer.json"))
        codec = build_codec(self.recipe["codec"])
        codec.load_state_dict(torch.load(Path(args.codec) / "codec.pt", map_location=DEVICE, weights_only=False)["model"])
        self.decoder = codec["decoder"].eval()

    def latents(self, numbers, prompts):
        """What decoder.jit reads, [B, C, R, R], and after each stage but the last, coarse to fine."""
        args, channels = self.args, self.config["latent"]["channels"]
        texts = encode(self.tokenizer, [self.text["promptTemplate"].replace("{prompt}", prompt) for prompt in prompts])
        nothing = encode(self.tokenizer, [self.text["unconditionalPrompt"]] * len(prompts))
        noises = [noise_of(numbers, channels, side, purpose) for purpose, side in enumerate(self.recipe["sides"])]
        if args.model == "dit":
            x, previews = sample_dit(self.model, texts, nothing, noises[-1], args.guidance, args.steps, args.solver), []
        else:
            x, previews = sample_ecar(self.model, self.config, texts, nothing, noises, args.guidance, not args.no_feedback)
        whole = [F.interpolate(preview, x.shape[-2:], mode="nearest") for preview in previews[:-1]] + [x]
        return [unnormalise(latents, self.config) for latents in whole]

    def pictures(self, latents):
        """-> bytes [B, 96, 96, 3]."""
        y = self.decoder(latents).clamp(-1, 1)
        if y.shape[-1] != SIDE:
            y = F.interpolate(y, (SIDE, SIDE), mode="bicubic", antialias=True).clamp(-1, 1)
        return ((y + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser()
    for name in ("config", "training", "codec", "tokenizer", "prompts", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--model", required=True, choices=["ecar", "dit"])
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--stages", action="store_true")
    parser.add_argument("--no-feedback", action="store_true")
    parser.add_argument("--steps", type=int, default=25, help="of the baseline")
    parser.add_argument("--solver", choices=["euler", "midpoint"], default="euler", help="of the baseline")
    args = parser.parse_args()
    drawing = Drawing(args)
    prompts = [line for line in Path(args.prompts).read_text().splitlines() if line for _ in range(args.images)]
    started = time.time()
    with open(args.out, "wb") as out:
        for start in range(0, len(prompts), BATCH):
            numbers = range(start, min(start + BATCH, len(prompts)))
            levels = drawing.latents(numbers, prompts[start : start + BATCH])
            drawn = [drawing.pictures(latents) for latents in (levels if args.stages else levels[-1:])]
            out.write(np.stack(drawn, 1).tobytes())
    print(json.dumps({"pictures": len(prompts), "seconds": round(time.time() - started, 1)}))


if __name__ == "__main__":
    main()
