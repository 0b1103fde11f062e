"""Write the judge as ONNX: `python export_judge.py --config configs/cpu.json --judge DIR --out judge.onnx`.

The graph reads `images` (uint8 [B, 96, 96, 3]) and answers for each of 12 x 12 cells: `objectness` [B, 144] and, given an object,
`box` [B, 144, 4] (left, top, right, bottom in pixels), `class` [B, 144, classes] and `colour` [B, 144, colours] as probabilities.
`features` [B, 5 width] is the mean over places of the coarser layer, for distances between sets of pictures.
Weights are float16 in the file and float32 when it runs. `golden.json` beside it holds what PyTorch answers for one picture.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn

from judge import GRID, SIDE, STRIDE, UNIT, Judge


OUTPUTS = ["objectness", "box", "class", "colour", "features"]


class Answers(nn.Module):
    def __init__(self, judge):
        super().__init__()
        self.judge = judge
        centres = (torch.arange(GRID) + 0.5) * STRIDE
        self.register_buffer("centres", torch.stack(torch.meshgrid(centres, centres, indexing="xy"), -1))

    def forward(self, images):
        fine, coarse = self.judge.trunk(images)
        objectness, box, kind, colour = self.judge.parts(self.judge.heads(fine, coarse))
        middle, half = self.centres + box[..., :2] * STRIDE, box[..., 2:].exp() * UNIT / 2
        boxes = torch.cat([middle - half, middle + half], -1)
        return (objectness.sigmoid().flatten(1), boxes.flatten(1, 2), kind.softmax(-1).flatten(1, 2),
                colour.softmax(-1).flatten(1, 2), coarse.mean((2, 3)))


def halve_weights(model):
    """Keep float32 weights of more than 256 elements as float16, each with a cast."""
    graph = model.graph
    for weight in list(graph.initializer):
        if weight.data_type != onnx.TensorProto.FLOAT or np.prod(weight.dims) <= 256:
            continue
        half = numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), f"{weight.name}.half")
        graph.initializer.remove(weight)
        graph.initializer.append(half)
        graph.node.insert(0, helper.make_node("Cast", [half.name], [weight.name], to=onnx.TensorProto.FLOAT))


def main():
    parser = argparse.ArgumentParser()
    for name in ("config", "judge", "out"):
        parser.add_argument(f"--{name}", required=True)
    args = parser.parse_args()
    config = json.loads(Path(args.config).read_text())["judge"]
    vocabulary = json.loads((Path(__file__).parent / "vocabulary.json").read_text())
    judge = Judge(len(vocabulary["objects"]), len(vocabulary["colours"]), config["width"])
    judge.load_state_dict(torch.load(Path(args.judge) / "judge.pt")["model"])
    torch.onnx.export(
        Answers(judge).eval(), torch.zeros(2, SIDE, SIDE, 3, dtype=torch.uint8), args.out, dynamo=False, opset_version=17,
        input_names=["images"], output_names=OUTPUTS, dynamic_axes={name: {0: "batch"} for name in ("images", *OUTPUTS)},
    )
    model = onnx.load(args.out)
    halve_weights(model)
    onnx.checker.check_model(model)
    onnx.save(model, args.out)
    y, x, c = np.mgrid[:SIDE, :SIDE, :3]
    with torch.no_grad():
        objectness = Answers(judge).eval()(torch.from_numpy((31 * y + 17 * x + 80 * c) % 256).byte()[None])[0][0]
    golden = {"picture": "(31 y + 17 x + 80 c) % 256", "objectness": [round(value, 5) for value in objectness.tolist()]}
    (Path(args.out).parent / "golden.json").write_text(json.dumps(golden) + "\n")
    print(json.dumps({"bytes": Path(args.out).stat().st_size}))


if __name__ == "__main__":
    main()
