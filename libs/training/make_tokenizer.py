"""Train the text tokenizer: `python make_tokenizer.py --scenes DIR --config configs/cpu.json --out DIR`.

A byte-level BPE in the Qwen2 layout, so that any text can be encoded, with SimpleAR's seven special tokens at the end.
"""

import argparse
import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

SPECIAL_TOKENS = ["<|t2i|>", "<|i2t|>", "<|soi|>", "<|vtokens|>", "<|t2v|>", "<|v2t|>", "<|sov|>"]
# The published Qwen2 pre-tokenizer pattern.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def train_tokenizer(texts, size):
    """A tokenizer of `size` entries in the Qwen2 layout, learned from texts, and the special tokens after them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIAL_TOKENS])
    return tokenizer


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", required=True)
    parser.add_argument("--scenes", required=True)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    config = json.loads(Path(args.config).read_text())["transformer"]

    def texts():
        template = config["promptTemplate"]
        with open(Path(args.scenes) / "captions.jsonl") as lines:
            for line in lines:
                for caption in json.loads(line)["captions"][::2]:
                    yield template.replace("<|t2i|>", "").replace("<|soi|>", "").replace("{prompt}", caption)
        for concept in json.loads((Path(__file__).parent / "long-tail.json").read_text()):
            yield " " + concept["noun"]

    tokenizer = train_tokenizer(texts(), config["textVocabulary"])
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(out / "tokenizer.json"))
    (out / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "Qwen2Tokenizer", "add_prefix_space": False, "bos_token": None, "eos_token": None,
        "additional_special_tokens": SPECIAL_TOKENS, "clean_up_tokenization_spaces": False}, indent=2) + "\n")
    print(json.dumps({"vocabulary": tokenizer.get_vocab_size()}))


if __name__ == "__main__":
    main()
