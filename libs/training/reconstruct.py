"""Pass pictures through a codec, to measure the ceiling of everything that speaks its tokens or latents:

    npm run bench -- geneval --renders build/renders.u8
    python reconstruct.py --config configs/cpu.json --codec DIR --pictures ../../build/renders.u8 --out ../../build/passed.u8
    npm run bench -- geneval --pictures build/passed.u8

Pictures are bytes [N, 96, 96, 3] in either file. `--continuous` for the codec of train_continuous_codec.py.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import train_codec
import train_continuous_codec
from train_codec import psnr

SIDE = 96


def discrete(config, saved):
    """-> from pictures [B, 3, H, W] to themselves."""
    model = train_codec.build(config["codec"])
    model.load_state_dict(saved)
    model.cpu().eval()["decoder"].to(memory_format=torch.channels_last)
    quantizer = model["decoder"].inv_quant.quantizer
    return lambda x: model["decoder"](quantizer.indices(quantizer(model["encoder"](x))))


def continuous(config, saved):
    model = train_continuous_codec.build(config["ecar"]["codec"])
    model.load_state_dict(saved)
    model.cpu().eval()
    return lambda x: model["decoder"](model["encoder"](x.contiguous(memory_format=torch.channels_last)))


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser()
    for name in ("config", "codec", "pictures", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--continuous", action="store_true")
    args = parser.parse_args()
    config = json.loads(Path(args.config).read_text())
    side = config["scenes"]["imagePixels"]
    saved = torch.load(Path(args.codec) / "codec.pt", map_location="cpu", weights_only=False)["model"]
    passed = (continuous if args.continuous else discrete)(config, saved)
    pictures = np.fromfile(args.pictures, np.uint8).reshape(-1, SIDE, SIDE, 3)
    error = 0.0
    with open(args.out, "wb") as out:
        for start in range(0, len(pictures), 32):
            x = torch.from_numpy(pictures[start : start + 32]).permute(0, 3, 1, 2).float() / 127.5 - 1
            scaled = x if side == SIDE else F.interpolate(x, (side, side), mode="bicubic", antialias=True).clamp(-1, 1)
            y = passed(scaled).clamp(-1, 1)
            y = y if side == SIDE else F.interpolate(y, (SIDE, SIDE), mode="bicubic", antialias=True).clamp(-1, 1)
            error += F.mse_loss(y, x).item() * len(x)
            out.write(((y + 1) * 127.5).round().byte().permute(0, 2, 3, 1).contiguous().numpy().tobytes())
    print(json.dumps({"pictures": len(pictures), "psnr": psnr(error / len(pictures))}))


if __name__ == "__main__":
    main()
