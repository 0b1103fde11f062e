"""What every stage after the codec shares: a model with its optimisers and curves, saved as it goes and taken up again.

Matrices and convolutions are trained by Muon, unless `muonLr` is null, and everything else by AdamW. The learning rate warms up,
stays, and falls to zero over the last part of the time given, so that an interrupted run resumes where it was.
"""

import json
import time
from pathlib import Path

import torch

from muon import Muon

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Training:
    """One stage of one model.

    Rows of the log say their stage, and `sequences` counts on from one stage to the next; `seen` and `seconds` are this stage's own.
    """

    def __init__(self, stage, config, model, out, source=None):
        """Begin with the weights of the folder `source`, or as the model is; go on where `out` has been begun already."""
        self.stage, self.config, self.path, self.model = stage, config, Path(out) / "training.pt", model.to(DEVICE)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        is_matrix = lambda name, p: config["muonLr"] is not None and p.ndim >= 2 and "embed" not in name
        matrices = [p for name, p in model.named_parameters() if is_matrix(name, p)]
        others = [p for name, p in model.named_parameters() if not is_matrix(name, p)]
        self.optimizers = {"adamw": (torch.optim.AdamW(others, lr=config["adamLr"], betas=(0.9, 0.95), weight_decay=0.0), config["adamLr"])}
        if matrices:
            self.optimizers["muon"] = (Muon(matrices, lr=config["muonLr"], weight_decay=config["weightDecay"]), config["muonLr"])
        self.seen, self.before, self.started, self.log = 0, 0.0, time.time(), []
        if self.path.exists():
            saved = self.load(self.path)
            self.seen, self.before = saved["seen"], saved["seconds"]
            for name, (optimizer, _) in self.optimizers.items():
                if name in saved:
                    optimizer.load_state_dict(saved[name])
        elif source is not None:
            self.load(Path(source) / "training.pt")
        self.earlier = max((row["sequences"] for row in self.log if row.get("stage", "pretrain") != stage), default=0)

    def load(self, path):
        saved = torch.load(path, map_location=DEVICE, weights_only=False)
        self.model.load_state_dict(saved["model"])
        self.log = saved["log"]
        return saved

    @property
    def seconds(self):
        """What this stage has taken, earlier runs counted."""
        return self.before + time.time() - self.started

    def rate(self, share):
        """What part of the configured learning rates to use when `share` 0..1 of the stage has gone."""
        warm = min(1, (self.seen + self.config["batch"]) / self.config["warmupSequences"])
        return warm * min(1, (1 - share) / self.config["decayShare"])

    def step(self, loss, rate, size):
        """One step down `loss` over `size` sequences at `rate` times the configured learning rates."""
        for optimizer, lr in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = lr * rate
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer, _ in self.optimizers.values():
            optimizer.step()
        self.seen += size

    def record(self, **row):
        """Add a row to the log and print it."""
        self.log.append({"stage": self.stage, "sequences": self.earlier + self.seen, "seconds": round(self.seconds), **row})
        print(json.dumps(self.log[-1]), flush=True)

    def save(self):
        torch.save({"model": self.model.state_dict(), "seen": self.seen, "seconds": self.seconds, "log": self.log,
                    **{name: optimizer.state_dict() for name, (optimizer, _) in self.optimizers.items()}}, self.path.with_suffix(".tmp"))
        self.path.with_suffix(".tmp").rename(self.path)
