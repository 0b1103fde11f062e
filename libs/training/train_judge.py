"""Train the benchmark's judge on scenes composed afresh, resumable:

    python train_judge.py --config configs/cpu.json --icons ../../test/bench/judge --codec DIR --out DIR

It never sees a picture that a transformer made, nothing is held out from it, and no generator is ever trained by it. `--codec`
only lends a decoder, whose answers to meaningless tokens are among the pictures that hold no object.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from compose import PLAIN, SIDE, Composer
from judge import GRID, STRIDE, UNIT, Judge
from muon import Muon
from train_codec import build as build_codec

NOISE_IMAGES = 768
CENTRES = (np.arange(GRID) + 0.5) * STRIDE


def targets_of(shown):
    """What each cell is to say about objects (class, colour, box): state [12, 12] (1 object, 0 none, -1 either), box
    [12, 12, 4], class and colour [12, 12] (-1 where nothing is asked)."""
    state, box = np.zeros((GRID, GRID), np.float32), np.zeros((GRID, GRID, 4), np.float32)
    kind, colour = np.full((2, GRID, GRID), -1, np.int64)
    for k, c, left, top, right, bottom in shown:
        middle, size = np.array([left + right, top + bottom]) / 2, np.array([right - left, bottom - top])
        away = np.stack(np.meshgrid(np.abs(CENTRES - middle[0]), np.abs(CENTRES - middle[1])), -1)
        near = (away < np.maximum(0.22 * size, 5)).all(-1)
        state[(away < np.maximum(0.4 * size, 9)).all(-1) & ~near & (state == 0)] = -1
        state[near], kind[near], colour[near] = 1, int(k), int(c) - 1
        offsets = np.stack(np.meshgrid(middle[0] - CENTRES, middle[1] - CENTRES), -1) / STRIDE
        box[near] = np.concatenate([offsets[near], np.tile(np.log(size / UNIT), (near.sum(), 1))], -1)
    return state, box, kind, colour


class Batches(torch.utils.data.IterableDataset):
    """Endless batches: scenes first, then `candidates` times as many pictures without an object as are to be learned from."""

    def __init__(self, composer, noise, batch, impostors, candidates=1):
        self.composer, self.noise = composer, noise
        self.scenes = batch - round(batch * impostors)
        self.impostors = candidates * round(batch * impostors)

    def scene(self):
        image, shown = self.composer.scene()
        return (self.composer.worn(image) if self.composer.rng.random() < 0.75 else image), shown

    def impostor(self):
        rng = self.composer.rng
        if len(self.noise) > 0 and rng.random() < 0.1:
            return self.noise[rng.integers(len(self.noise))], ()
        return self.composer.impostor(), ()

    def __iter__(self):
        while True:
            examples = [self.scene() for _ in range(self.scenes)] + [self.impostor() for _ in range(self.impostors)]
            images, shown = zip(*examples)
            yield tuple(torch.from_numpy(np.stack(a)) for a in (images, *zip(*map(targets_of, shown))))


@torch.no_grad()
def hardest(judge, batch, size):
    """The batch with only those impostors in which the judge sees most: the others have nothing left to teach."""
    impostors = (batch[1] == 0).flatten(1).all(1).nonzero().squeeze(1)
    judge.eval()
    sight = judge.parts(judge(batch[0][impostors]))[0].flatten(1).amax(1)
    judge.train()
    scenes = len(batch[0]) - len(impostors)
    kept = torch.cat([torch.arange(scenes), impostors[sight.topk(size - scenes).indices]])
    return tuple(part[kept] for part in batch)


@torch.no_grad()
def codec_noise(folder, config, composer):
    """What the codec makes of tokens without meaning: any at all, a picture's own in any order, or half of them replaced."""
    codec = build_codec(config)
    codec.load_state_dict(torch.load(Path(folder) / "codec.pt", map_location="cpu")["model"])
    quantizer = codec["decoder"].inv_quant.quantizer
    images = np.stack([composer.scene()[0] for _ in range(NOISE_IMAGES)])
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    ids = quantizer.indices(quantizer(codec["encoder"](x))).flatten(1)
    third = NOISE_IMAGES // 3
    anything = torch.randint(quantizer.codebook_size, ids.shape)
    ids[:third] = anything[:third]
    order = torch.rand(ids.shape).argsort(1)
    ids[third : 2 * third] = ids.gather(1, order)[third : 2 * third]
    ids[2 * third :] = torch.where(torch.rand(ids.shape) < 0.5, anything, ids)[2 * third :]
    cells = SIDE // config["patchPixels"]
    y = torch.cat([codec["decoder"](part) for part in ids.reshape(-1, cells, cells).split(32)])
    return ((y.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()


def loss_of(judge, batch):
    images, state, box, kind, colour = batch
    objectness, boxes, kinds, colours = judge.parts(judge(images))
    asked, found = state >= 0, state > 0
    coloured = found & (colour >= PLAIN)
    return (4 * F.binary_cross_entropy_with_logits(objectness[asked], state[asked])
            + 2 * F.smooth_l1_loss(boxes[found], box[found], beta=0.1)
            + F.cross_entropy(kinds[found], kind[found])
            + 0.5 * F.cross_entropy(colours[coloured], colour[coloured]))


@torch.no_grad()
def report_of(judge, batch):
    """How often single cells are right; the benchmark itself measures whole pictures."""
    images, state, _, kind, colour = batch
    judge.eval()
    objectness, _, kinds, colours = judge.parts(torch.cat([judge(part) for part in images.split(128)]))
    judge.train()
    found, coloured = state > 0, (state > 0) & (colour >= 0)
    impostor = (state <= 0).flatten(1).all(1)
    sure = (objectness > 0) & (kinds.softmax(-1).amax(-1) > 0.5)
    share = lambda claims: round(claims.float().mean().item(), 4)
    return {"found": share(sure[found] & (kinds.argmax(-1) == kind)[found]), "colours": share((colours.argmax(-1) == colour)[coloured]),
            "stray": share(sure[state == 0]), "fooled": share(sure[impostor].flatten(1).any(1))}


def main():
    parser = argparse.ArgumentParser()
    for name in ("config", "icons", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--codec")
    parser.add_argument("--minutes", type=float, help="overrides the configured length")
    args = parser.parse_args()
    whole = json.loads(Path(args.config).read_text())
    config, out = whole["judge"], Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    vocabulary = json.loads((Path(__file__).parent / "vocabulary.json").read_text())
    judge = Judge(len(vocabulary["objects"]), len(vocabulary["colours"]), config["width"]).to(memory_format=torch.channels_last)
    log = []
    if (out / "judge.pt").exists():
        saved = torch.load(out / "judge.pt")
        judge.load_state_dict(saved["model"])
        log = saved["log"]
    torch.manual_seed(config["seed"] + len(log))
    composer = Composer(args.icons, vocabulary, config["styleWeights"], np.random.default_rng([config["seed"], len(log)]))
    noise = codec_noise(args.codec, whole["codec"], composer) if args.codec else []
    batches = Batches(composer, noise, config["batch"], config["impostors"], config["candidates"])
    held = next(iter(Batches(composer, noise, 512, config["impostors"])))
    loader = iter(torch.utils.data.DataLoader(batches, batch_size=None, num_workers=1, prefetch_factor=8))
    parameters = list(judge.parameters())
    optimizers = [Muon([p for p in parameters if p.ndim > 1], lr=config["muonLr"], weight_decay=0.02),
                  torch.optim.AdamW([p for p in parameters if p.ndim == 1], lr=config["adamLr"], weight_decay=0.0)]
    rates = [config["muonLr"], config["adamLr"]]
    seconds = 60 * (args.minutes or config["minutes"])
    started, reported, steps = time.time(), time.time(), 0

    def report(loss):
        row = {"images": steps * config["batch"], "seconds": round(time.time() - started), "loss": round(loss.item(), 4),
               **report_of(judge, held)}
        log.append(row)
        print(json.dumps(row), flush=True)
        torch.save({"model": judge.state_dict(), "log": log}, out / "judge.tmp")
        (out / "judge.tmp").rename(out / "judge.pt")

    while (elapsed := time.time() - started) < seconds:
        share = min(1, (steps + 1) / 100) * (0.505 + 0.495 * math.cos(math.pi * elapsed / seconds))
        loss = loss_of(judge, hardest(judge, next(loader), config["batch"]))
        for optimizer, rate in zip(optimizers, rates):
            for group in optimizer.param_groups:
                group["lr"] = rate * share
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        for optimizer in optimizers:
            optimizer.step()
        steps += 1
        if time.time() - reported > 30:
            report(loss)
            reported = time.time()
    report(loss)


if __name__ == "__main__":
    main()
