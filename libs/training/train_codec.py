"""Train the codec in three stages, each resumable:

    python train_codec.py --config configs/cpu.json --scenes DIR --out DIR --stage encoder
    python train_codec.py --config configs/cpu.json --scenes DIR --out DIR --stage decoder
    python train_codec.py --config configs/cpu.json --scenes DIR --out DIR --stage joint

The encoder sees one patch at a time. It is trained first against a small patch decoder, on distinct patches, which is
fast; then the served decoder learns its tokens; then both learn together, so that the encoder leaves out what the decoder
knows from the neighbours. From then on the tokens are fixed.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from cosmos import PatchDecoder, PatchEncoder, TokenDecoder, to_patches
from muon import Muon

HELD_OUT_IMAGES = 1024
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def build(config):
    levels = config["levels"]
    encoder = PatchEncoder(levels, config["patchPixels"], config["encoderWidth"])
    partner = PatchDecoder(levels, config["patchPixels"], config["encoderWidth"])
    decoder = TokenDecoder(levels, config["channels"], config["channelsMult"], config["numResBlocks"],
                           config["zChannels"], config["patchSize"])
    return torch.nn.ModuleDict({"encoder": encoder, "partner": partner, "decoder": decoder}).to(DEVICE)


def open_images(folder):
    """The scenes' pixels as a read-only array [N, side, side, 3] of bytes."""
    side = json.loads((Path(folder) / "scenes.json").read_text())["side"]
    return np.memmap(Path(folder) / "images.u8", dtype=np.uint8, mode="r").reshape(-1, side, side, 3)


def to_tensor(images):
    """Bytes [B, H, W, 3] -> [-1, 1] floats [B, 3, H, W] on the device."""
    return torch.from_numpy(np.array(images)).to(DEVICE).permute(0, 3, 1, 2).float() / 127.5 - 1


def distinct_patches(images, patch_pixels, rng):
    """Every different patch of some images once, as floats [N, 3 p p]."""
    patches = to_patches(torch.from_numpy(np.array(images)).permute(0, 3, 1, 2), patch_pixels).flatten(0, 2).numpy()
    hashes = patches.astype(np.int64) @ rng.integers(-(2**40), 2**40, patches.shape[1])
    return torch.from_numpy(patches[np.unique(hashes, return_index=True)[1]])


def psnr(error):
    """Mean squared error on the [-1, 1] scale -> dB."""
    return round(10 * math.log10(4 / error), 2)


def gradient_loss(a, b):
    """L1 distance of horizontal and vertical differences: keeps edges crisp."""
    return (a.diff(dim=-1) - b.diff(dim=-1)).abs().mean() + (a.diff(dim=-2) - b.diff(dim=-2)).abs().mean()


class EncoderStage:
    def __init__(self, model, config, images, rng):
        self.model, self.config = model, config
        self.quantizer = model["decoder"].inv_quant.quantizer
        picked = np.sort(rng.choice(len(images) - HELD_OUT_IMAGES, config["encoder"]["images"], replace=False))
        self.patches = distinct_patches(images[picked], config["patchPixels"], rng)
        print(json.dumps({"distinctPatches": len(self.patches)}), flush=True)
        self.parameters = [*model["encoder"].parameters(), *model["partner"].parameters()]

    def loss(self):
        picked = torch.randint(len(self.patches), (self.config["encoder"]["batch"],))
        x = self.patches[picked].to(DEVICE).float() / 127.5 - 1
        y = self.model["partner"](self.quantizer(self.model["encoder"].layers(x)))
        return F.mse_loss(y, x) + 0.5 * F.l1_loss(y, x)

    def report(self, x):
        codes = self.quantizer(self.model["encoder"](x))
        y = self.model["partner"](codes).clamp(-1, 1)
        return {"psnr": psnr(F.mse_loss(y, to_patches(x, self.config["patchPixels"])).item()),
                "codes": len(self.quantizer.indices(codes).unique())}


class DecoderStage:
    def __init__(self, model, config, images, rng):
        self.model, self.config, self.images, self.rng = model, config, images, rng
        self.quantizer = model["decoder"].inv_quant.quantizer
        model["decoder"].to(memory_format=torch.channels_last)
        self.parameters = list(model["decoder"].parameters())

    def loss(self):
        picked = self.rng.integers(0, len(self.images) - HELD_OUT_IMAGES, self.config["decoder"]["batch"])
        x = to_tensor(self.images[np.sort(picked)])
        with torch.no_grad():
            codes = self.quantizer(self.model["encoder"](x)).permute(0, 3, 1, 2)
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=self.config["bf16"]):
            y = self.model["decoder"].decode_codes(codes.contiguous(memory_format=torch.channels_last)).float()
        return F.l1_loss(y, x) + 0.5 * F.mse_loss(y, x) + 0.5 * gradient_loss(y, x)

    def report(self, x):
        ids = self.quantizer.indices(self.quantizer(self.model["encoder"](x)))
        y = torch.cat([self.model["decoder"](part) for part in ids.split(64)])
        return {"psnr": psnr(F.mse_loss(y.clamp(-1, 1), x).item()), "codes": len(ids.unique())}


def foreground(x):
    """1 where a pixel differs from the background, which is the colour of the first one. [B, 1, H, W]"""
    return ((x - x[:, :, :1, :1]).abs().amax(1, keepdim=True) > 0.06).float()


class JointStage(DecoderStage):
    """Encoder and decoder together. Objects count three times as much as the background, of which there is more."""

    def __init__(self, model, config, images, rng):
        super().__init__(model, config, images, rng)
        self.parameters = [*model["encoder"].parameters(), *model["decoder"].parameters()]

    def loss(self):
        picked = self.rng.integers(0, len(self.images) - HELD_OUT_IMAGES, self.config["joint"]["batch"])
        x = to_tensor(self.images[np.sort(picked)]).contiguous(memory_format=torch.channels_last)
        codes = self.quantizer(self.model["encoder"](x)).permute(0, 3, 1, 2)
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=self.config["bf16"]):
            y = self.model["decoder"].decode_codes(codes.contiguous(memory_format=torch.channels_last)).float()
        weight = 1 + 2 * foreground(x)
        return ((y - x).abs() * weight).mean() + 0.5 * ((y - x).square() * weight).mean() + 0.7 * gradient_loss(y, x)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", required=True)
    parser.add_argument("--scenes", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--stage", required=True, choices=["encoder", "decoder", "joint"])
    parser.add_argument("--minutes", type=float, help="overrides the configured length")
    args = parser.parse_args()
    config = json.loads(Path(args.config).read_text())["codec"]
    settings = config[args.stage]
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    images = open_images(args.scenes)
    model = build(config)
    log = []
    if (out / "codec.pt").exists():
        saved = torch.load(out / "codec.pt", map_location=DEVICE)
        model.load_state_dict(saved["model"])
        log = saved["log"]
    torch.manual_seed(config["seed"] + len(log))
    rng = np.random.default_rng(config["seed"] + len(log))
    stage = {"encoder": EncoderStage, "decoder": DecoderStage, "joint": JointStage}[args.stage](model, config, images, rng)
    held = to_tensor(images[-HELD_OUT_IMAGES:][:256])
    vectors = [p for p in stage.parameters if p.ndim == 1]
    matrices = [p for p in stage.parameters if p.ndim > 1]
    optimizers = [Muon(matrices, lr=settings["muonLr"]), torch.optim.AdamW(vectors, lr=settings["adamLr"], weight_decay=0.0)]
    rates = [settings["muonLr"], settings["adamLr"]]
    seconds = 60 * (args.minutes or settings["minutes"])
    started, reported, steps = time.time(), time.time(), 0

    def report(loss):
        with torch.no_grad():
            row = {"stage": args.stage, "steps": steps, "seconds": round(time.time() - started),
                   "loss": round(loss.item(), 4), **stage.report(held)}
        log.append(row)
        print(json.dumps(row), flush=True)
        torch.save({"model": model.state_dict(), "log": log}, out / "codec.tmp")
        (out / "codec.tmp").rename(out / "codec.pt")

    while (elapsed := time.time() - started) < seconds:
        share = min(1, (steps + 1) / 50) * (0.505 + 0.495 * math.cos(math.pi * elapsed / seconds))
        loss = stage.loss()
        for optimizer, rate in zip(optimizers, rates):
            for group in optimizer.param_groups:
                group["lr"] = rate * share
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(stage.parameters, 1.0)
        for optimizer in optimizers:
            optimizer.step()
        steps += 1
        if time.time() - reported > 30:
            report(loss)
            reported = time.time()
    report(loss)


if __name__ == "__main__":
    main()
