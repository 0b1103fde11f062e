"""Choose the scenes of supervised fine-tuning (SFT): the final style only, each picture well kept by the codec, the six
tasks equally often, and within a task every object, colour, number and relation about equally often.

    python select_scenes.py --config configs/cpu.json --scenes DIR --codec DIR --tokens DIR

Writes `selection.npz` beside the tokens: `scenes`, the numbers of the chosen ones, and `held_out`, those of the final style that
training never sees.
"""

import argparse
import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import torch

from train_codec import DEVICE, build, foreground, open_images, to_tensor

TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
SLACK = 1.15  # how far above an equal share anything may come: held-out combinations make exact equality impossible
BATCH = 32


def features(scene):
    """What a scene shows that is to come equally often within its task, as (kind, value) with repeats."""
    items = scene["items"]
    shown = [("object", item["object"]) for item in items]
    shown += [("colour", item["colour"]) for item in items if "colour" in item]
    shown += [("count", scene["count"])] if scene["task"] == "counting" else []
    return shown + ([("relation", scene["relation"])] if "relation" in scene else [])


class Shares:
    """How often each feature was chosen within one task, and how often it may be."""

    def __init__(self, scenes, wanted):
        self.chosen, self.left = Counter(), wanted
        values, uses = {}, Counter()
        for scene in scenes:
            for kind, value in features(scene):
                values.setdefault(kind, set()).add(value)
                uses[kind] += 1
        self.most = {kind: math.ceil(SLACK * wanted * uses[kind] / len(scenes) / len(values[kind])) for kind in values}

    def has_room(self, scene):
        return self.left > 0 and all(self.chosen[feature] < self.most[feature[0]] for feature in features(scene))

    def count(self, scene, times):
        """Count a scene as chosen, or with -1 as not chosen after all."""
        self.left -= times
        for feature in features(scene):
            self.chosen[feature] += times


@torch.no_grad()
def object_psnr(decoder, tokens, images):
    """How well the codec keeps what is not background, in dB. Tokens [B, N], bytes [B, side, side, 3] -> [B]"""
    x, grid = to_tensor(images), math.isqrt(tokens.shape[1])
    ids = torch.from_numpy(tokens.astype(np.int64)).to(DEVICE).view(-1, grid, grid)
    inside = foreground(x)
    error = ((decoder(ids).clamp(-1, 1) - x).square() * inside).sum((1, 2, 3)) / (3 * inside.sum((1, 2, 3))).clamp(min=1)
    return (10 * torch.log10(4 / error.clamp(min=1e-9))).tolist()


def choose(records, order, shares, is_good, batch=BATCH):
    """Walk over scene numbers in the order given and keep those that have room and are good, a batch at a time."""
    chosen, poor, waiting = [], [], []

    def settle():
        for number, good in zip(waiting, is_good(np.array(waiting))):
            (chosen if good else poor).append(number)
            if not good:
                shares[records[number]["task"]].count(records[number], -1)
        waiting.clear()

    for number in order:
        scene = records[number]
        if shares[scene["task"]].has_room(scene):
            shares[scene["task"]].count(scene, 1)
            waiting.append(number)
        if len(waiting) == batch:
            settle()
    if waiting:
        settle()
    return np.array(sorted(chosen)), len(poor)


def main():
    parser = argparse.ArgumentParser()
    for name in ("config", "scenes", "codec", "tokens"):
        parser.add_argument(f"--{name}", required=True)
    args = parser.parse_args()
    whole = json.loads(Path(args.config).read_text())
    config = whole["sft"]
    records = [json.loads(line)["scene"] for line in open(Path(args.scenes) / "captions.jsonl")]
    tokens, images = np.load(Path(args.tokens) / "image.npy", mmap_mode="r"), open_images(args.scenes)
    codec = build(whole["codec"])
    codec.load_state_dict(torch.load(Path(args.codec) / "codec.pt", map_location=DEVICE)["model"])
    decoder = codec["decoder"].eval().to(memory_format=torch.channels_last)

    final = np.array([n for n, scene in enumerate(records) if scene["style"] == config["style"] and scene["task"] in TASKS])
    usable = len(records) - whole["transformer"]["heldOutScenes"]
    order = np.random.default_rng(config["seed"]).permutation(final[final < usable])
    shares = {task: Shares([records[n] for n in order if records[n]["task"] == task], config["scenes"] // len(TASKS)) for task in TASKS}
    chosen, poor = choose(records, order, shares, lambda numbers: (
        psnr >= config["minObjectPsnrDb"] for psnr in object_psnr(decoder, tokens[numbers], images[numbers])))
    np.savez(Path(args.tokens) / "selection.npz", scenes=chosen, held_out=final[final >= usable])
    tasks = Counter(records[n]["task"] for n in chosen)
    spread = {f"{task}.{kind}": [min(counts), max(counts)] for task, own in shares.items() for kind in own.most
              if (counts := [own.chosen[feature] for feature in own.chosen if feature[0] == kind])}
    print(json.dumps({"scenes": len(chosen), "poor": poor, "tasks": tasks, "spread": spread}))


if __name__ == "__main__":
    main()
