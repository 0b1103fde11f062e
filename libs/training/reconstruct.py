"""Pass pictures through the codec, to measure the ceiling of everything that speaks its tokens:

    npm run bench -- geneval --renders build/renders.u8
    python reconstruct.py --config configs/cpu.json --codec DIR --pictures ../../build/renders.u8 --out ../../build/passed.u8
    npm run bench -- geneval --pictures build/passed.u8

Pictures are bytes [N, 96, 96, 3] in either file.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from train_codec import build, psnr

SIDE = 96


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser()
    for name in ("config", "codec", "pictures", "out"):
        parser.add_argument(f"--{name}", required=True)
    args = parser.parse_args()
    config = json.loads(Path(args.config).read_text())
    side = config["scenes"]["imagePixels"]
    model = build(config["codec"])
    model.load_state_dict(torch.load(Path(args.codec) / "codec.pt", map_location="cpu")["model"])
    model.cpu().eval()["decoder"].to(memory_format=torch.channels_last)
    quantizer = model["decoder"].inv_quant.quantizer
    pictures = np.fromfile(args.pictures, np.uint8).reshape(-1, SIDE, SIDE, 3)
    error, codes = 0.0, set()
    with open(args.out, "wb") as out:
        for start in range(0, len(pictures), 32):
            x = torch.from_numpy(pictures[start : start + 32]).permute(0, 3, 1, 2).float() / 127.5 - 1
            scaled = x if side == SIDE else F.interpolate(x, (side, side), mode="bicubic", antialias=True).clamp(-1, 1)
            ids = quantizer.indices(quantizer(model["encoder"](scaled)))
            codes.update(ids.unique().tolist())
            y = model["decoder"](ids).clamp(-1, 1)
            y = y if side == SIDE else F.interpolate(y, (SIDE, SIDE), mode="bicubic", antialias=True).clamp(-1, 1)
            error += F.mse_loss(y, x).item() * len(x)
            out.write(((y + 1) * 127.5).round().byte().permute(0, 2, 3, 1).contiguous().numpy().tobytes())
    print(json.dumps({"pictures": len(pictures), "psnr": psnr(error / len(pictures)), "codes": len(codes)}))


if __name__ == "__main__":
    main()
