"""Turn scenes into latents once, before training, resumable:
`python encode_latents.py --config configs/cpu.json --scenes DIR --codec DIR --out DIR`.

Writes latent.npy (float16 [N, C, h, h], the encoder's means) and latent.json: how many are done of the first chapters and of the
later ones, and mean and scale of each channel over the first of them. x0 = (latent - mean) / scale. The held-out ones come before
all others and are not counted. Both parts grow in turns, so training may begin early and sees more when it is taken up again.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from train_codec import DEVICE, open_images, to_tensor
from train_continuous_codec import build

CHUNK, BATCH = 8192, 128


def statistics(latents):
    """Mean and standard deviation of each channel of a sample of [N, C, h, h]."""
    sample = latents[:: max(1, len(latents) // 8192)].astype(np.float32)
    return {"mean": [round(float(v), 6) for v in sample.mean((0, 2, 3))], "scale": [round(float(v), 6) for v in sample.std((0, 2, 3))]}


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser()
    for name in ("config", "scenes", "codec", "out"):
        parser.add_argument(f"--{name}", required=True)
    args = parser.parse_args()
    config = json.loads(Path(args.config).read_text())["ecar"]
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    model = build(config["codec"])
    model.load_state_dict(torch.load(Path(args.codec) / "codec.pt", map_location=DEVICE, weights_only=False)["model"])
    images = open_images(args.scenes)
    shape = (len(images), config["codec"]["latentChannels"], config["sides"][-1], config["sides"][-1])
    progress = out / "latent.json"
    state = json.loads(progress.read_text()) if progress.exists() else {"done": [0, 0]}
    is_new = not progress.exists()
    latents = np.lib.format.open_memmap(out / "latent.npy", mode="w+" if is_new else "r+", dtype=np.float16, shape=shape if is_new else None)

    def encode(start, end):
        for at in range(start, end, BATCH):
            x = to_tensor(images[at : min(at + BATCH, end)]).contiguous(memory_format=torch.channels_last)
            latents[at : at + len(x)] = model["encoder"](x).cpu().numpy()
        latents.flush()

    usable = len(images) - config["heldOutScenes"]
    first = min(usable, config["firstScenes"])
    parts = [(0, first), (first, usable)]
    if is_new:
        encode(usable, len(images))
    while any(start + done < end for (start, end), done in zip(parts, state["done"])):
        for index, (start, end) in enumerate(parts):
            begin = start + state["done"][index]
            encode(begin, min(begin + CHUNK, end))
            state["done"][index] = min(begin + CHUNK, end) - start
        if "mean" not in state:
            state |= statistics(latents[: state["done"][0]])
        progress.write_text(json.dumps(state) + "\n")
    print(json.dumps(state))


if __name__ == "__main__":
    main()
