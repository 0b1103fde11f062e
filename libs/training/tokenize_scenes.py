"""Turn scenes into ids once, before training, as SimpleAR's recipe does:
`python tokenize_scenes.py --config configs/cpu.json --scenes DIR --codec DIR --tokenizer DIR --out DIR`.

Writes image.npy (uint16 [N, grid * grid]), text.npy (uint16 [N, captions, longest]) and text_lengths.npy (uint8).
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from train_codec import DEVICE, build, open_images, to_tensor


def main():
    parser = argparse.ArgumentParser()
    for name in ("config", "scenes", "codec", "tokenizer", "out"):
        parser.add_argument(f"--{name}", required=True)
    args = parser.parse_args()
    config = json.loads(Path(args.config).read_text())
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)

    model = build(config["codec"])
    model.load_state_dict(torch.load(Path(args.codec) / "codec.pt", map_location=DEVICE)["model"])
    quantizer = model["decoder"].inv_quant.quantizer
    images = open_images(args.scenes)
    parts = []
    with torch.no_grad():
        for start in range(0, len(images), 512):
            ids = quantizer.indices(quantizer(model["encoder"](to_tensor(images[start : start + 512]))))
            parts.append(ids.flatten(1).cpu().numpy().astype(np.uint16))
    tokens = np.concatenate(parts)
    np.save(out / "image.npy", tokens)

    tokenizer = Tokenizer.from_file(str(Path(args.tokenizer) / "tokenizer.json"))
    template = config["transformer"]["promptTemplate"]
    rows = [json.loads(line)["captions"] for line in open(Path(args.scenes) / "captions.jsonl")]
    texts = [template.replace("{prompt}", caption) for captions in rows for caption in captions]
    encoded = [e.ids for start in range(0, len(texts), 50_000)
               for e in tokenizer.encode_batch(texts[start : start + 50_000], add_special_tokens=False)]
    lengths = np.array([len(ids) for ids in encoded], dtype=np.uint8).reshape(len(rows), -1)
    text = np.zeros((len(encoded), lengths.max()), dtype=np.uint16)
    for row, ids in zip(text, encoded):
        row[: len(ids)] = ids
    np.save(out / "text.npy", text.reshape(*lengths.shape, -1))
    np.save(out / "text_lengths.npy", lengths)
    print(json.dumps({"scenes": len(rows), "codes": len(np.unique(tokens)), "longestText": int(lengths.max()),
                      "meanText": round(float(lengths.mean()), 1)}))


if __name__ == "__main__":
    main()
