"""Write what the converter reads: the checkpoint folder that ecar_model.py describes.

    python export_ecar.py --config configs/cpu.json --codec DIR --ecar DIR --dit DIR --tokenizer DIR --out DIR

Weights are the averaged ones, in float32. `--dit` may be left out; the baseline is only for benchmarks, and kept in float16, as it is run.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from train_continuous_codec import build as build_codec
from train_ecar import load_trained


def save_network(network, config, folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file({name: value.cpu().contiguous() for name, value in network.state_dict().items()}, folder / "model.safetensors")


@torch.no_grad()
def export_codec(recipe, folder, out):
    """-> the last line of its log."""
    saved = torch.load(Path(folder) / "codec.pt", map_location="cpu", weights_only=False)
    codec = build_codec(recipe["codec"]).cpu()
    codec.load_state_dict(saved["model"])
    codec.to(memory_format=torch.contiguous_format).eval()
    side = recipe["sides"][-1]
    latents = torch.zeros(1, recipe["codec"]["latentChannels"], side, side)
    pixels = codec["decoder"](latents)
    torch.jit.trace(codec["decoder"], latents).save(str(out / "decoder.jit"))
    torch.jit.trace(codec["encoder"].means_only(), pixels).save(str(out / "encoder.jit"))
    return saved["log"][-1]


def stage_losses(row):
    """By the names of a bundle's metrics, which are numbers."""
    return {f"heldOutLossOfStage{stage + 1}": loss for stage, loss in enumerate(row["heldOutLosses"])}


def main():
    parser = argparse.ArgumentParser()
    for name in ("config", "codec", "ecar", "tokenizer", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--dit", help="the baseline's training")
    parser.add_argument("--commit", default="", help="the recipe's commit, for the bundle's provenance")
    args = parser.parse_args()
    whole = json.loads(Path(args.config).read_text())
    recipe, text, out = whole["ecar"], whole["transformer"], Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    network, config, log = load_trained("ecar", args.ecar, recipe)
    save_network(network, config, out)
    metrics = {"codecPsnrDb": export_codec(recipe, args.codec, out)["psnr"], **stage_losses(log[-1]),
               "trainingScenes": log[-1]["scenes"]}
    if args.dit:
        baseline, baseline_config, baseline_log = load_trained("dit", args.dit, recipe)
        save_network(baseline.half(), baseline_config, out / "dit")
        metrics |= {"ditHeldOutLoss": baseline_log[-1]["heldOutLosses"][0], "ditTrainingScenes": baseline_log[-1]["scenes"]}
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(Path(args.tokenizer) / name, out / name)
    side = recipe["sides"][-1]
    (out / "tessera.json").write_text(json.dumps({
        "name": recipe["bundle"]["name"], "licence": whole["bundle"]["licence"],
        "promptTemplate": text["promptTemplate"], "negativePromptTemplate": text["negativePromptTemplate"],
        "unconditionalPrompt": text["unconditionalPrompt"], "maxPromptTokens": recipe["maxPromptTokens"],
        "defaults": recipe["bundle"]["defaults"], "grid": [side, side],
        "provenance": {**whole["bundle"]["provenance"], "recipe": f"libs/training, {Path(args.config).name}",
                       **({"commit": args.commit} if args.commit else {})},
        "metrics": metrics,
    }, indent=2) + "\n")


if __name__ == "__main__":
    main()
