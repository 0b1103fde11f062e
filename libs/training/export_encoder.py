"""Write the codec's encoder as ONNX, for measuring what the codec itself loses; serving needs only its decoder:
`python export_encoder.py --config configs/cpu.json --codec DIR --out encoder.onnx`.

Input `pixels` float32 [B, 3, H, W] in -1..1, output `tokens` int64 [B, h, w]: as an encoder in a bundle.
"""

import argparse
import json
from pathlib import Path

import onnx
import torch
from torch import nn

from export_judge import halve_weights
from train_codec import build


class Encoder(nn.Module):
    def __init__(self, codec):
        super().__init__()
        self.encoder = codec["encoder"]
        self.quantizer = codec["decoder"].inv_quant.quantizer

    def forward(self, pixels):
        return self.quantizer.indices(self.quantizer(self.encoder(pixels)))


def main():
    parser = argparse.ArgumentParser()
    for name in ("config", "codec", "out"):
        parser.add_argument(f"--{name}", required=True)
    args = parser.parse_args()
    config = json.loads(Path(args.config).read_text())
    codec = build(config["codec"]).cpu()
    codec.load_state_dict(torch.load(Path(args.codec) / "codec.pt", map_location="cpu")["model"])
    side = config["scenes"]["imagePixels"]
    torch.onnx.export(
        Encoder(codec).eval(), torch.zeros(2, 3, side, side), args.out, dynamo=False, opset_version=17,
        input_names=["pixels"], output_names=["tokens"], dynamic_axes={"pixels": {0: "B"}, "tokens": {0: "B"}},
    )
    model = onnx.load(args.out)
    halve_weights(model)
    onnx.checker.check_model(model)
    onnx.save(model, args.out)
    print(json.dumps({"bytes": Path(args.out).stat().st_size}))


if __name__ == "__main__":
    main()
