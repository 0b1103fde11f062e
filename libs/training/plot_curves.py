"""Draw the curves of a run: `python plot_curves.py --codec DIR --transformer DIR --out curves.png`, or of continuous tokens
`python plot_curves.py --ecar DIR --dit DIR --out curves.png`, or of what quality costs from the last lines of `npm run bench -- ecar`,
`python plot_curves.py --claim REPORT.json .. --out claim.png`.

The transformer's are those of all its stages, one after the other; rewards get a panel of their own where there are any.
"""

import argparse
import json
from pathlib import Path

import matplotlib
import torch

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402  (the backend must be chosen first)
from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter  # noqa: E402


def log_of(folder, file="training.pt"):
    return torch.load(Path(folder) / file, map_location="cpu", weights_only=False)["log"]


def draw_continuous(ecar, dit):
    figure, panel = plt.subplots(figsize=(6, 3.6))
    minutes = lambda log: [row["seconds"] / 60 for row in log]
    for stage, losses in enumerate(zip(*(row["heldOutLosses"] for row in ecar)), 1):
        panel.plot(minutes(ecar), losses, label=f"E-CAR, stage {stage}")
    panel.plot(minutes(dit), [row["heldOutLosses"][0] for row in dit], label="baseline", linestyle="--")
    panel.set(xlabel="minutes of one core", ylabel="squared error of velocities, held out", yscale="log")
    return figure


def draw_claim(reports):
    figure, panel = plt.subplots(figsize=(6, 3.6))
    for family, style, label in (("ecars", "o-", "E-CAR"), ("dits", "s--", "baseline")):
        best = {}  # of several that cost the same
        for run in sorted((run for report in reports for run in report[family]), key=lambda run: run["score"]):
            best[run["macs"]] = run
        runs = [best[macs] for macs in sorted(best)]
        spread = list(zip(*((run["score"] - run["interval"][0], run["interval"][1] - run["score"]) for run in runs)))
        panel.errorbar([run["macs"] / 1e9 for run in runs], [run["score"] for run in runs], spread, fmt=style, capsize=2, label=label)
        for run in runs:
            panel.annotate(run["name"].split(", ")[1], (run["macs"] / 1e9, run["score"]), xytext=(4, -12), textcoords="offset points", fontsize=7)
    panel.set(xlabel="GMAC an image, codec apart", ylabel="score", xscale="log")
    panel.margins(x=0.25, y=0.1)
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_major_formatter(ScalarFormatter())
    return figure


def draw_discrete(codec, transformer):
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
    return figure


def main():
    parser = argparse.ArgumentParser()
    for name in ("codec", "transformer", "ecar", "dit"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--claim", nargs="+")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    if not ((args.codec and args.transformer) or (args.ecar and args.dit) or args.claim):
        parser.error("give --codec and --transformer, --ecar and --dit, or --claim")
    if args.claim:
        figure = draw_claim([json.loads(Path(file).read_text().splitlines()[-1]) for file in args.claim])
    elif args.ecar:
        figure = draw_continuous(log_of(args.ecar), log_of(args.dit))
    else:
        figure = draw_discrete(log_of(args.codec, "codec.pt"), log_of(args.transformer))
    for panel in figure.axes:
        panel.legend()
        panel.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(args.out, dpi=90)


if __name__ == "__main__":
    main()
