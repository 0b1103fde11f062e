"""Train mini-CLIP on training scenes, resumable:

    node dist/libs/training/make-negatives.js --scenes DIR
    python train_clip.py --config configs/cpu.json --scenes DIR --tokens DIR --codec DIR --tokenizer DIR --out DIR [--minutes M]

A picture's own caption must stand out from those of other scenes and from those false by one thing (`negatives.jsonl`); a
caption's own picture from those of other scenes and from itself spoiled, with a part of another scene in it. Some pictures are
what the codec leaves of a render, since such are what it will be asked about, the others renders more or less blurred. Held-out combinations
are in none of them, and it never sees what a transformer made.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from clip import MAX_TEXT, build, contrast
from training import DEVICE, Training
from train_codec import build as build_codec, open_images, to_tensor

SHORT = 2  # the captions of a scene that are short come first
NEGATIVES = 3


class Captions:
    """True and false captions of every scene as text tokens, in the prompt template's words."""

    def __init__(self, scenes, tokens, tokenizer, template):
        self.text, self.lengths = np.load(tokens / "text.npy", mmap_mode="r"), np.load(tokens / "text_lengths.npy")
        false = [json.loads(line)["captions"] for line in open(scenes / "negatives.jsonl")]
        texts = [template.replace("{prompt}", caption) for captions in false for caption in captions]
        encoded = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        self.false = np.zeros((len(texts), MAX_TEXT), np.uint16)
        self.false_lengths = np.array([len(one.ids) for one in encoded], np.uint8)
        for row, one in zip(self.false, encoded):
            row[: len(one.ids)] = one.ids
        self.first_false = np.concatenate([[0], np.cumsum([len(captions) for captions in false])])

    def true(self, scenes, rng):
        """A short caption of each scene -> ids [B, T], lengths [B]."""
        picked = rng.integers(0, SHORT, len(scenes))
        return padded(np.array(self.text[scenes, picked]), self.lengths[scenes, picked])

    def negatives(self, scenes):
        """-> ids [B * NEGATIVES, T], lengths, and where there is a caption [B, NEGATIVES]."""
        at = self.first_false[scenes][:, None] + np.arange(NEGATIVES)
        there = at < self.first_false[scenes + 1][:, None]
        at = np.where(there, at, 0).ravel()
        return *padded(self.false[at], self.false_lengths[at]), torch.from_numpy(there).to(DEVICE)


def padded(ids, lengths):
    longest = int(lengths.max())
    return torch.from_numpy(ids[:, :longest].astype(np.int64)).to(DEVICE), torch.from_numpy(lengths.astype(np.int64)).to(DEVICE)


class Pictures:
    """Renders, what the codec leaves of them, and spoiled ones: [-1, 1] floats [B, 3, side, side]."""

    def __init__(self, scenes, tokens, codec, patch, records):
        self.images, self.tokens = open_images(scenes), np.load(tokens / "image.npy", mmap_mode="r")
        self.decoder, self.patch = codec["decoder"].eval().to(memory_format=torch.channels_last), patch
        alike = {}
        for number, scene in enumerate(records):
            alike.setdefault((scene["background"], scene["style"]), []).append(number)
        self.alike = [alike[scene["background"], scene["style"]] for scene in records]

    def renders(self, scenes):
        return to_tensor(self.images[scenes])

    @torch.no_grad()
    def reconstructions(self, scenes):
        side = int(self.tokens.shape[1] ** 0.5)
        return self.decoder(torch.from_numpy(self.tokens[scenes].astype(np.int64)).to(DEVICE).view(-1, side, side)).clamp(-1, 1)

    def spoiled(self, scenes, rng):
        """With a rectangle of patches from another scene of the same background and style, which changes at least a tenth."""
        mixed, grid = np.array(self.images[scenes]), self.images.shape[1] // self.patch
        for image, scene in zip(mixed, scenes):
            own = image.copy()
            while (image != own).any(-1).mean() < 0.1:
                (height, width), other = rng.integers(grid // 4, 2 * grid // 3, 2), self.images[rng.choice(self.alike[scene])]
                top, left = rng.integers(0, grid - height + 1), rng.integers(0, grid - width + 1)
                rows, columns = (slice(self.patch * first, self.patch * (first + count)) for first, count in ((top, height), (left, width)))
                image[rows, columns] = other[rows, columns]
        return to_tensor(mixed)


def worn(images):
    """Each blurred by another amount, as codecs do."""
    return torch.lerp(images, F.avg_pool2d(images, 3, 1, 1, count_include_pad=False), torch.rand(len(images), 1, 1, 1, device=images.device))


class Batches:
    def __init__(self, config, records, held_out, captions, pictures):
        self.config, self.captions, self.pictures = config, captions, pictures
        self.by_task = {task: np.array([n for n, scene in enumerate(records[:-held_out]) if scene["task"] == task])
                        for task in config["scenes"]}
        same = [json.dumps({**scene, "task": None}, sort_keys=True) for scene in records]
        self.same = np.unique(same, return_inverse=True)[1]

    def next(self, rng):
        """So many scenes of each task -> what `contrast` compares, from pixels and text tokens."""
        scenes = np.concatenate([rng.choice(self.by_task[task], count) for task, count in self.config["scenes"].items()])
        rng.shuffle(scenes)
        drawn, spoiled = (int(len(scenes) * self.config[share]) for share in ("renderedShare", "spoiledShare"))
        images = torch.cat([worn(self.pictures.renders(scenes[:drawn])), self.pictures.reconstructions(scenes[drawn:]),
                            worn(self.pictures.spoiled(scenes[:spoiled], rng))])
        is_same = torch.from_numpy(self.same[scenes][:, None] == self.same[scenes]).to(DEVICE)
        return images, self.captions.true(scenes, rng), self.captions.negatives(scenes), is_same


def losses(model, batch):
    images, true, (false, false_lengths, is_negative), is_same = batch
    negatives = model.read(false, false_lengths).view(*is_negative.shape, -1)
    return contrast(model.see(images), model.read(*true), negatives, is_negative, is_same, model.sharpness)


@torch.no_grad()
def retrieval(model, scenes, images, captions):
    """How often a picture's own caption is nearer than each of those false by one thing, [B] booleans. One draw of captions."""
    seen = torch.cat([model.see(part) for part in images.split(64)])
    texts = model.read(*captions.true(scenes, np.random.default_rng(0)))
    false, lengths, is_negative = captions.negatives(scenes)
    negatives = model.read(false, lengths).view(*is_negative.shape, -1)
    hard = (seen[:, None] * negatives).sum(-1).masked_fill(~is_negative, -1)
    return ((seen * texts).sum(-1)[:, None] > hard).all(1).float().cpu().numpy()


class Examination:
    """Accuracies on scenes held out: by task on what the codec leaves, then over all tasks on renders, against spoiled pictures (one
    of two is right by chance), and with the pictures of other scenes, which must be at chance."""

    def __init__(self, held, captions, pictures):
        self.held, self.captions, self.scenes = held, captions, np.concatenate(list(held.values()))
        self.renders, self.kept = pictures.renders(self.scenes), pictures.reconstructions(self.scenes)
        self.spoiled = worn(pictures.spoiled(self.scenes, np.random.default_rng(0)))

    @torch.no_grad()
    def __call__(self, model):
        model.eval()
        right = retrieval(model, self.scenes, self.kept, self.captions)
        row = {task: part.mean() for task, part in zip(self.held, np.split(right, np.cumsum([len(own) for own in self.held.values()])))}
        texts = model.read(*self.captions.true(self.scenes, np.random.default_rng(0)))
        cleaner = ((model.see(worn(self.renders)) - model.see(self.spoiled)) * texts).sum(-1) > 0
        row |= {"renders": retrieval(model, self.scenes, self.renders, self.captions).mean(), "spoiled": cleaner.float().mean(),
                "otherPictures": retrieval(model, self.scenes, self.kept.roll(1, 0), self.captions).mean()}
        model.train()
        return {name: round(float(value), 3) for name, value in row.items()}


def main():
    parser = argparse.ArgumentParser()
    for name in ("config", "scenes", "tokens", "codec", "tokenizer", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--minutes", type=float, help="overrides the configured length")
    args = parser.parse_args()
    whole = json.loads(Path(args.config).read_text())
    config, held_out = whole["clip"], whole["transformer"]["heldOutScenes"]
    scenes, tokens = Path(args.scenes), Path(args.tokens)
    records = [json.loads(line)["scene"] for line in open(scenes / "captions.jsonl")]
    codec = build_codec(whole["codec"])
    codec.load_state_dict(torch.load(Path(args.codec) / "codec.pt", map_location=DEVICE)["model"])
    tokenizer = Tokenizer.from_file(str(Path(args.tokenizer) / "tokenizer.json"))
    captions = Captions(scenes, tokens, tokenizer, whole["transformer"]["promptTemplate"])
    pictures = Pictures(scenes, tokens, codec, whole["codec"]["patchPixels"], records)
    batches = Batches(config, records, held_out, captions, pictures)
    held = {task: np.array([n for n in range(len(records) - held_out, len(records)) if records[n]["task"] == task
                            and records[n]["style"] == whole["sft"]["style"]][: config["reportScenes"]]) for task in config["scenes"]}

    torch.manual_seed(config["seed"])
    training, examine = Training("clip", config, build(whole, tokenizer.get_vocab_size()), args.out), Examination(held, captions, pictures)
    rng, seconds = np.random.default_rng(config["seed"] + training.seen), 60 * (args.minutes or config["minutes"])
    reported, window = time.time(), []
    while (share := training.seconds / seconds) < 1:
        loss = losses(training.model, batches.next(rng))
        training.step(loss, training.rate(share), sum(config["scenes"].values()))
        window.append(loss.item())
        if time.time() - reported > config["reportSeconds"]:
            training.record(loss=round(float(np.mean(window)), 4), **examine(training.model))
            training.save()
            window, reported = [], time.time()
    training.record(loss=round(float(np.mean(window or [0])), 4), **examine(training.model))
    training.save()


if __name__ == "__main__":
    main()
