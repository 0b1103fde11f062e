"""Write what the converter reads: a Hugging Face Qwen2 folder and a TorchScript decoder.

    python export_checkpoint.py --config configs/cpu.json --codec DIR --transformer DIR --tokenizer DIR --out DIR
    npm run convert -- --lm DIR/lm --decoder DIR/decoder.jit --out libs/models/emoji-96

`lm/tessera.json` adds what a published checkpoint does not say: templates, grid, defaults, provenance and metrics.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from tokenizers import Tokenizer

from train_codec import build as build_codec
from train_transformer import build as build_transformer

# What the last row of a model's log may say, by its name in the bundle: reinforcement has no loss.
MEASURED = {"heldOutLossNats": "heldOutLoss", "meanReward": "reward"}


def main():
    parser = argparse.ArgumentParser()
    for name in ("config", "codec", "transformer", "tokenizer", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--commit", default="", help="the recipe's commit, for the bundle's provenance")
    args = parser.parse_args()
    whole = json.loads(Path(args.config).read_text())
    config, bundle = whole["transformer"], whole["bundle"]
    out = Path(args.out)
    (out / "lm").mkdir(parents=True, exist_ok=True)

    codec_state = torch.load(Path(args.codec) / "codec.pt", map_location="cpu")
    codec = build_codec(whole["codec"])
    codec.load_state_dict(codec_state["model"])
    decoder = codec["decoder"].cpu().to(memory_format=torch.contiguous_format).eval()
    grid = whole["scenes"]["imagePixels"] // whole["codec"]["patchPixels"]
    with torch.no_grad():
        traced = torch.jit.trace(decoder, torch.zeros(1, grid, grid, dtype=torch.long))
    traced.save(str(out / "decoder.jit"))

    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(Path(args.tokenizer) / name, out / "lm" / name)
    text_tokens = Tokenizer.from_file(str(out / "lm" / "tokenizer.json")).get_vocab_size()
    training = torch.load(Path(args.transformer) / "training.pt", map_location="cpu", weights_only=False)
    model = build_transformer(config, text_tokens, codec["decoder"].inv_quant.quantizer.codebook_size)
    model.load_state_dict(training["model"])
    model.save_pretrained(out / "lm", safe_serialization=True)

    last = training["log"][-1]
    (out / "lm" / "tessera.json").write_text(json.dumps({
        "name": bundle["name"], "licence": bundle["licence"],
        "promptTemplate": config["promptTemplate"], "negativePromptTemplate": config["negativePromptTemplate"],
        "unconditionalPrompt": config["unconditionalPrompt"], "maxPromptTokens": config["maxPromptTokens"],
        "defaults": bundle["defaults"], "grid": [grid, grid],
        "provenance": {**bundle["provenance"], "recipe": f"libs/training, {Path(args.config).name}",
                       **({"commit": args.commit} if args.commit else {})},
        "metrics": {"codecPsnrDb": codec_state["log"][-1]["psnr"], "trainingSequences": last["sequences"],
                    **{metric: last[name] for metric, name in MEASURED.items() if name in last}},
    }, indent=2) + "\n")


if __name__ == "__main__":
    main()
