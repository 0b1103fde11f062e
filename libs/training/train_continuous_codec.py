"""Train the continuous codec, resumable: `python train_continuous_codec.py --config configs/cpu.json --scenes DIR --out DIR
[--decoder DIR] [--minutes M]`.

Encoder and decoder learn together: pixels by the same losses as the discrete codec's, and a small KL term that keeps latents
near the unit normal. The decoder sees latents with the encoder's own uncertainty, so it forgives small errors of the flow.
It may begin as a discrete codec's, of the same sizes behind its first layer.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from cosmos_continuous import LatentDecoder, LatentEncoder, kl_divergence
from muon import Muon
from train_codec import DEVICE, HELD_OUT_IMAGES, foreground, gradient_loss, open_images, psnr, to_tensor


def build(config):
    model = torch.nn.ModuleDict({"encoder": LatentEncoder(config), "decoder": LatentDecoder(config)})
    return model.to(DEVICE, memory_format=torch.channels_last)


def take_decoder(model, folder):
    """Begin with the decoder that train_codec.py has saved in `folder`."""
    saved = torch.load(Path(folder) / "codec.pt", map_location=DEVICE)["model"]
    prefix = "decoder.decoder."
    model["decoder"].decoder.load_state_dict({name.removeprefix(prefix): value for name, value in saved.items() if name.startswith(prefix)})


def loss_of(model, x, config):
    """Objects count three times as much as the background, of which there is more."""
    with torch.autocast(DEVICE.type, torch.bfloat16, enabled=config["bf16"]):
        mean, log_variance = (part.float() for part in model["encoder"].distribution(x))
        latents = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        y = model["decoder"](latents).float()
    weight = 1 + 2 * foreground(x)
    pixels = ((y - x).abs() * weight).mean() + 0.5 * ((y - x).square() * weight).mean() + 0.7 * gradient_loss(y, x)
    return pixels + config["klWeight"] * kl_divergence(mean, log_variance)


@torch.no_grad()
def report(model, x):
    mean, log_variance = model["encoder"].distribution(x)
    y = torch.cat([model["decoder"](part) for part in mean.split(64)])
    return {"psnr": psnr(F.mse_loss(y.clamp(-1, 1), x).item()), "latentStd": round(mean.std().item(), 3),
            "noiseStd": round((0.5 * log_variance).exp().mean().item(), 4),
            "kl": round(kl_divergence(mean, log_variance).item(), 3)}


class Training:
    """Model, optimisers and log, as they are saved and taken up again."""

    def __init__(self, config, out):
        torch.manual_seed(config["seed"])
        self.config, self.path = config, out / "codec.pt"
        self.model = build(config)
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        vectors = [p for p in self.model.parameters() if p.ndim == 1]
        self.optimizers = [(Muon(matrices, lr=config["muonLr"]), config["muonLr"]),
                           (torch.optim.AdamW(vectors, lr=config["adamLr"], weight_decay=0.0), config["adamLr"])]
        self.steps, self.seconds, self.log = 0, 0.0, []
        if self.path.exists():
            saved = torch.load(self.path, map_location=DEVICE, weights_only=False)
            self.model.load_state_dict(saved["model"])
            for (optimizer, _), state in zip(self.optimizers, saved["optimizers"]):
                optimizer.load_state_dict(state)
            self.steps, self.seconds, self.log = saved["steps"], saved["seconds"], saved["log"]

    def step(self, x, share):
        """One step at `share` 0..1 of the time; the rate warms up, then falls along a cosine."""
        rate = min(1, (self.steps + 1) / 50) * (0.505 + 0.495 * math.cos(math.pi * share))
        for optimizer, lr in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr * rate
            optimizer.zero_grad(set_to_none=True)
        loss = loss_of(self.model, x, self.config)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer, _ in self.optimizers:
            optimizer.step()
        self.steps += 1
        return loss.item()

    def save(self, seconds):
        state = {"model": self.model.state_dict(), "optimizers": [optimizer.state_dict() for optimizer, _ in self.optimizers],
                 "steps": self.steps, "seconds": seconds, "log": self.log}
        torch.save(state, self.path.with_suffix(".tmp"))
        self.path.with_suffix(".tmp").rename(self.path)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", required=True)
    parser.add_argument("--scenes", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--decoder", help="a discrete codec to begin with the decoder of")
    parser.add_argument("--minutes", type=float, help="overrides the configured length, of all runs together")
    args = parser.parse_args()
    config = json.loads(Path(args.config).read_text())["ecar"]["codec"]
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    images = open_images(args.scenes)
    training = Training(config, out)
    if args.decoder and training.steps == 0:
        take_decoder(training.model, args.decoder)
    rng = np.random.default_rng([config["seed"], training.steps])
    torch.manual_seed(config["seed"] + training.steps)
    held = to_tensor(images[-HELD_OUT_IMAGES:][:256])
    total = 60 * (args.minutes or config["minutes"])
    before, started, reported, window = training.seconds, time.time(), time.time(), []

    def write():
        row = {"steps": training.steps, "seconds": round(before + time.time() - started),
               "loss": round(float(np.mean(window)), 4), **report(training.model, held)}
        training.log.append(row)
        print(json.dumps(row), flush=True)
        training.save(before + time.time() - started)

    while (share := (before + time.time() - started) / total) < 1:
        picked = np.sort(rng.integers(0, len(images) - HELD_OUT_IMAGES, config["batch"]))
        x = to_tensor(images[picked]).contiguous(memory_format=torch.channels_last)
        window.append(training.step(x, share))
        if time.time() - reported > config["reportSeconds"]:
            write()
            reported, window = time.time(), []
    if window:
        write()


if __name__ == "__main__":
    main()
