"""Score drawn pictures by mini-CLIP, the reward of training, to choose settings of sampling without the benchmark's judge:

    python score_pictures.py --config configs/cpu.json --clip DIR --tokenizer DIR --prompts prompts.txt --images 4 pictures.u8 ..

Prompts and pictures are those of draw_pictures.py. Prints each file's mean cosine with its standard error over prompts, the mean
difference from the first file with its own (prompt by prompt, so it is far surer than the two means), and the mean where every picture
is held against another prompt, which says nothing.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from clip import load
from draw_pictures import encode
from reconstruct import SIDE
from training import DEVICE


def mean_of(values):
    """Mean over prompts and its standard error."""
    return [round(values.mean().item(), 4), round((values.std() / len(values) ** 0.5).item(), 4)]


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser()
    for name in ("config", "clip", "tokenizer", "prompts"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("pictures", nargs="+")
    args = parser.parse_args()
    whole = json.loads(Path(args.config).read_text())
    tokenizer = Tokenizer.from_file(str(Path(args.tokenizer) / "tokenizer.json"))
    clip = load(whole, tokenizer.get_vocab_size(), args.clip).to(DEVICE)
    prompts = [line for line in Path(args.prompts).read_text().splitlines() if line]
    texts = clip.read(*encode(tokenizer, [whole["transformer"]["promptTemplate"].replace("{prompt}", prompt) for prompt in prompts]))

    first = None
    for path in args.pictures:
        images = torch.from_numpy(np.fromfile(path, np.uint8).reshape(-1, SIDE, SIDE, 3)).permute(0, 3, 1, 2) / 127.5 - 1
        seen = torch.cat([clip.see(part.to(DEVICE)) for part in images.split(64)]).view(len(prompts), args.images, -1)
        scores = torch.einsum("pgd,pd->p", seen, texts) / args.images
        first = scores if first is None else first
        others = torch.einsum("pgd,pd->p", seen, texts.roll(1, 0)) / args.images
        print(json.dumps({"pictures": path, "score": mean_of(scores), "overFirst": mean_of(scores - first), "otherPrompts": mean_of(others)[0]}))


if __name__ == "__main__":
    main()
