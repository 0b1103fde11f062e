"""Draw the curves of a run: `python plot_curves.py --codec DIR --transformer DIR --out curves.png`."""

import argparse
from pathlib import Path

import matplotlib
import torch

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402  (the backend must be chosen first)


def main():
    parser = argparse.ArgumentParser()
    for name in ("codec", "transformer", "out"):
        parser.add_argument(f"--{name}", required=True)
    args = parser.parse_args()
    codec = torch.load(Path(args.codec) / "codec.pt", map_location="cpu")["log"]
    transformer = torch.load(Path(args.transformer) / "training.pt", map_location="cpu", weights_only=False)["log"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
    minutes, before, last = [], 0, 0
    for row in codec:  # a resumed run counts its seconds from its own start
        before += last if row["seconds"] < last else 0
        last = row["seconds"]
        minutes.append((before + last) / 60)
    for stage in dict.fromkeys(row["stage"] for row in codec):
        points = [(minute, row["psnr"]) for minute, row in zip(minutes, codec) if row["stage"] == stage]
        left.plot(*zip(*points), label=stage)
    left.set(xlabel="minutes", ylabel="PSNR of held-out reconstructions, dB", title="codec")
    sequences = [row["sequences"] / 1000 for row in transformer]
    right.plot(sequences, [row["loss"] for row in transformer], label="training")
    right.plot(sequences, [row["heldOutLoss"] for row in transformer], label="held out")
    right.set(xlabel="thousand sequences", ylabel="nats per image token", title="transformer")
    for axes in (left, right):
        axes.legend()
        axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(args.out, dpi=90)


if __name__ == "__main__":
    main()
