"""Group relative policy optimisation (GRPO) with mini-CLIP as reward, resumable:

    python train_grpo.py --config configs/cpu.json --tokens DIR --selection DIR/selection.npz --codec DIR --clip DIR
      --tokenizer DIR --from DIR --out DIR

As in SimpleAR (arXiv 2504.11455): several images of each prompt, sampled without guidance at temperature 1; the reward is the cosine
of mini-CLIP between decoded image and prompt; what is better than the others of its prompt becomes likelier, within reach of
the fine-tuned model. Learned from are the prompts whose images differ most. Prompts are short captions of the scenes of
fine-tuning. The benchmark's judge has no part in it.

The rule to stop is fixed beforehand: after `steps`, or earlier for a reason of `reason_to_stop`. The last weights are the result.
"""

import argparse
import copy
import json
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer

from clip import load as load_clip
from grpo import advantages, most_telling, objective, reason_to_stop
from rollout import log_probabilities, sample
from train_codec import build as build_codec
from train_transformer import build
from training import DEVICE, Training


class Reward:
    """Mini-CLIP's cosine between what the codec draws and what was asked for."""

    def __init__(self, whole, codec, clip, vocabulary):
        self.codec, self.clip = build_codec(whole["codec"]), load_clip(whole, vocabulary, clip).to(DEVICE)
        self.codec.load_state_dict(torch.load(Path(codec) / "codec.pt", map_location=DEVICE)["model"])
        self.codec.eval()["decoder"].to(memory_format=torch.channels_last)

    @torch.no_grad()
    def __call__(self, ids, drawn):
        """Text tokens [P, T] and image tokens [P * G, N] -> [P, G]"""
        side = int(drawn.shape[1] ** 0.5)
        images = self.codec["decoder"](drawn.view(-1, side, side)).clamp(-1, 1)
        texts = self.clip.read(ids, torch.full((len(ids),), ids.shape[1], device=ids.device))
        return torch.einsum("pgd,pd->pg", self.clip.see(images).view(len(ids), -1, texts.shape[1]), texts)


class Prompts:
    """Short captions by their number of text tokens: those of one step are equally long, so that nothing has to be padded."""

    def __init__(self, tokens, scenes, count):
        text, lengths = np.load(tokens / "text.npy", mmap_mode="r"), np.load(tokens / "text_lengths.npy")[scenes, :2]
        self.text, self.scenes, self.count, self.places = text, scenes, count, {}
        for length in np.unique(lengths):
            places = np.argwhere(lengths == length)
            if len(places) >= count:
                self.places[int(length)] = places

    def next(self, rng):
        """-> text tokens [count, T], and the numbers of their scenes"""
        sizes = np.array([len(places) for places in self.places.values()])
        length = rng.choice(list(self.places), p=sizes / sizes.sum())
        picked = rng.choice(self.places[length], self.count, replace=False)
        ids = np.stack([self.text[self.scenes[row], caption, :length] for row, caption in picked])
        return torch.from_numpy(ids.astype(np.int64)).to(DEVICE), self.scenes[picked[:, 0]]


def update(training, reference, ids, drawn, then, advantage, codebook_size, rate):
    """Learn from one step's images [B] a part at a time. -> the mean KL divergence and clip share"""
    config, numbers = training.config, []
    for part in torch.arange(len(drawn)).chunk(config["updates"]):
        now = log_probabilities(training.model, ids[part], drawn[part], codebook_size)
        with torch.no_grad():
            before = log_probabilities(reference, ids[part], drawn[part], codebook_size)
        loss, kl, clipped = objective(now, then[part], before, advantage[part], config["clip"], config["beta"])
        training.step(loss, rate, len(part))
        numbers.append((kl.item(), clipped.item()))
    return np.mean(numbers, 0)


def train(training, reference, prompts, reward, tokens, codebook_size):
    config = training.config
    rows = lambda name: [value for row in training.log if row.get("stage") == "grpo" for value in [row[name]]]
    while (done := len(rows("reward"))) < config["steps"]:
        if reason := reason_to_stop(rows("reward"), rows("kl"), config["window"], config["maxKl"]):
            print(json.dumps({"stopped": reason}))
            break
        rng = np.random.default_rng([config["seed"], done])
        torch.manual_seed(config["seed"] * 1_000_003 + done)
        ids, _ = prompts.next(rng)
        drawn, then = sample(training.model, ids, config["group"], tokens, codebook_size)
        rewards = reward(ids, drawn)
        telling = most_telling(rewards, config["learned"])
        images = (telling[:, None] * config["group"] + torch.arange(config["group"], device=DEVICE)).flatten()
        kl, clipped = update(training, reference, ids[telling].repeat_interleave(config["group"], 0), drawn[images], then[images],
                             advantages(rewards[telling]).flatten(), codebook_size, training.rate(done / config["steps"]))
        training.record(reward=round(rewards.mean().item(), 4), deviation=round(rewards.std(1).mean().item(), 4),
                        kl=round(float(kl), 5), clipShare=round(float(clipped), 4))
        if (done + 1) % config["saveSteps"] == 0:
            training.save()
    training.save()


def main():
    parser = argparse.ArgumentParser()
    for name in ("config", "tokens", "selection", "codec", "clip", "tokenizer", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--from", dest="source", required=True, help="the fine-tuned model")
    args = parser.parse_args()
    whole = json.loads(Path(args.config).read_text())
    config = {**whole["transformer"], **whole["grpo"]}
    codebook_size, grid = int(np.prod(whole["codec"]["levels"])), whole["scenes"]["imagePixels"] // whole["codec"]["patchPixels"]
    offset = Tokenizer.from_file(str(Path(args.tokenizer) / "tokenizer.json")).get_vocab_size()
    model = build(config, offset, codebook_size)
    reference = copy.deepcopy(model)
    reference.load_state_dict(torch.load(Path(args.source) / "training.pt", map_location="cpu", weights_only=False)["model"])
    training = Training("grpo", config, model, args.out, args.source)
    prompts = Prompts(Path(args.tokens), np.load(args.selection)["scenes"], config["prompts"])
    train(training, reference.to(DEVICE).requires_grad_(False), prompts, Reward(whole, args.codec, args.clip, offset), grid**2, codebook_size)
    training.model.save_pretrained(args.out, safe_serialization=True)


if __name__ == "__main__":
    main()
