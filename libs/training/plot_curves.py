"""Draw the curves of a run: `python plot_curves.py --codec DIR --transformer DIR --out curves.png`.

The transformer's are those of all its stages, one after the other; rewards get a panel of their own where there are any.
"""

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
    reinforced = [row for row in transformer if "reward" in row]
    panels = 3 if reinforced else 2
    figure, axes = plt.subplots(1, panels, figsize=(5 * panels, 3.6))
    left, right = axes[:2]
    minutes, before, last = [], 0, 0
    for row in codec:  # a resumed run counts its seconds from its own start
        before += last if row["seconds"] < last else 0
        last = row["seconds"]
        minutes.append((before + last) / 60)
    for stage in dict.fromkeys(row["stage"] for row in codec):
        points = [(minute, row["psnr"]) for minute, row in zip(minutes, codec) if row["stage"] == stage]
        left.plot(*zip(*points), label=stage)
    left.set(xlabel="minutes", ylabel="PSNR of held-out reconstructions, dB", title="codec")
    for stage in dict.fromkeys(row.get("stage", "pretrain") for row in transformer):
        rows = [row for row in transformer if row.get("stage", "pretrain") == stage and "loss" in row]
        for name, label in (("loss", "training"), ("heldOutLoss", "held out")) if rows else ():
            right.plot([row["sequences"] / 1000 for row in rows], [row[name] for row in rows], label=f"{stage}, {label}")
    right.set(xlabel="thousand sequences", ylabel="nats per image token", title="transformer")
    if reinforced:
        for name, scale in (("reward", 1), ("kl", 10)):
            axes[2].plot([scale * row[name] for row in reinforced], label=name if scale == 1 else f"{name} x {scale}")
        axes[2].set(xlabel="steps", title="reinforcement")
    for panel in axes:
        panel.legend()
        panel.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(args.out, dpi=90)


if __name__ == "__main__":
    main()
