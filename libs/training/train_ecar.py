"""Train the stage transformer and its flow head together, or the baseline, resumable:
`python train_ecar.py --model ecar|dit --config configs/cpu.json --tokens DIR --latents DIR --tokenizer DIR --out DIR [--minutes M] [--from DIR]`.

Rectified flow: at random tau the network tells the velocity from noise to picture (arXiv 2209.03003); E-CAR does so at every
stage, from token maps that one masked pass over the true ends of all stages makes. What is where is decided at the coarse
stages, which have a fourth of the cells: some steps train those alone, on a larger batch. One caption in ten is dropped for
guidance, one feedback in ten so that the network can also do without. What is sampled and exported is the average of the
weights (EMA). Optimisers and learning rate as in train_transformer.py. `--from` is the folder of a trained discrete transformer:
both networks can begin with what it knows of words and of where it puts what they say. On a CPU minutes are those of the
processor, so that a busy machine takes nothing away.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from tokenizers import Tokenizer

from ecar_config import make_config, stages_of
from ecar_model import NETWORKS
from ecar_schedule import endpoints
from muon import Muon

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
seconds_now = time.time if DEVICE.type == "cuda" else time.process_time


class Batches:
    """Captions and normalised latents of scenes."""

    def __init__(self, tokens, latents, nothing, recipe):
        self.latents = np.load(latents / "latent.npy", mmap_mode="r")
        statistics = json.loads((latents / "latent.json").read_text())
        self.done = statistics["done"]
        self.mean, self.scale = (np.array(statistics[name], np.float32)[:, None, None] for name in ("mean", "scale"))
        self.text = np.load(tokens / "text.npy", mmap_mode="r")
        self.lengths = np.load(tokens / "text_lengths.npy")
        self.nothing, self.recipe = nothing, recipe

    def next(self, scenes, rng):
        """Scene numbers [B] -> x0 [B, C, R, R], ids [B, P], lengths [B]; captions picked and dropped by `rng`."""
        texts = []
        for scene in scenes:
            caption = rng.integers(self.lengths.shape[1])
            whole = self.text[scene, caption, : self.lengths[scene, caption]]
            texts.append(self.nothing if rng.random() < self.recipe["dropPrompt"] else whole)
        lengths = np.array([len(text) for text in texts])
        ids = np.zeros((len(texts), lengths.max()), np.int64)
        for row, text in zip(ids, texts):
            row[: len(text)] = text
        x0 = (self.latents[scenes].astype(np.float32) - self.mean) / self.scale
        return tuple(torch.from_numpy(part).to(DEVICE) for part in (x0, ids, lengths))

    def pick(self, share, count, rng):
        """Scenes [count], ascending: of the first chapters until `firstShare` of the time has gone, then of all that are encoded."""
        first, later = self.done
        drawn = np.sort(rng.integers(0, first if share < self.recipe["firstShare"] else first + later, count))
        return np.where(drawn < first, drawn, drawn - first + self.recipe["firstScenes"])


def ecar_losses(model, config, batch, recipe, count=None):
    """Mean squared error of the velocity at each of the first `count` stages, all without it, [count].

    As a change per unit of noise, so that stages weigh the same.
    """
    x0, ids, lengths = batch
    stages, draws = stages_of(config), recipe["draws"]
    pairs = endpoints(x0, torch.randn_like(x0), stages)[:count]
    fed = (torch.rand(len(x0), 1, 1, 1, device=x0.device) >= recipe["dropFeedback"]).float()
    maps = model.token_maps(ids, lengths, [fed * end for _, end in pairs[:-1]])
    losses = []
    for index, ((start, end), stage) in enumerate(zip(pairs, stages)):
        start, end, token_map = (part.repeat(draws, *[1] * (part.ndim - 1)) for part in (start, end, maps[index]))
        tau = torch.rand(len(start), device=x0.device)
        state = torch.lerp(end, start, tau[:, None, None, None])
        error = F.mse_loss(model.flow_head(state, stage.time(tau), index, token_map).float(), end - start)
        losses.append(error / (stage.start - stage.end) ** 2)
    return torch.stack(losses)


def dit_losses(model, config, batch, recipe, count=None):
    """Mean squared error of the velocity, [1]; there are no stages to count."""
    x0, ids, lengths = batch
    noise, tau = torch.randn_like(x0), torch.rand(len(x0), device=x0.device)
    state = torch.lerp(x0, noise, tau[:, None, None, None])
    return F.mse_loss(model(state, 1 - tau, model.prefix(ids, lengths)).float(), x0 - noise)[None]


LOSSES = {"ecar": ecar_losses, "dit": dit_losses}


def begin_with(model, folder):
    """Take over the text embedding and the layers of a Qwen2 checkpoint of the same width, and tell how many parameters that were.

    Its image ids have no place here; its layers are taken from the first on, as far as there are any.
    """
    source, taken = load_file(Path(folder) / "model.safetensors"), 0
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            given = source.get(name) if name.startswith("model.") else source.get(f"model.{name}")
            if given is not None:
                parameter.copy_(given[: len(parameter)] if "embed_tokens" in name else given)
                taken += parameter.numel()
    return taken


class Training:
    """Network, averaged weights, optimisers and log, as they are saved and taken up again."""

    def __init__(self, name, recipe, vocabulary, latent, out, source=None):
        torch.manual_seed(recipe["seed"])
        self.name, self.recipe, self.path = name, recipe, out / "training.pt"
        self.config = make_config(name, recipe, vocabulary, latent)
        self.model = NETWORKS[name](self.config).to(DEVICE)
        self.taken = begin_with(self.model, source) if source else 0
        self.average = [parameter.detach().clone() for parameter in self.model.parameters()]
        named = list(self.model.named_parameters())
        is_matrix = lambda name, p: p.ndim == 2 and "layers." in name and "modulation" not in name
        self.optimizers = [
            (Muon([p for n, p in named if is_matrix(n, p)], lr=recipe["muonLr"], weight_decay=recipe["weightDecay"]), recipe["muonLr"]),
            (torch.optim.AdamW([p for n, p in named if not is_matrix(n, p)], lr=recipe["adamLr"], betas=(0.9, 0.95), weight_decay=0.0),
             recipe["adamLr"]),
        ]
        self.seen, self.steps, self.seconds, self.log = 0, 0, 0.0, []
        if self.path.exists():
            self.take_up(torch.load(self.path, map_location=DEVICE, weights_only=False))

    def take_up(self, saved):
        self.model.load_state_dict(saved["model"])
        self.average = saved["average"]
        for (optimizer, _), state in zip(self.optimizers, saved["optimizers"]):
            optimizer.load_state_dict(state)
        self.seen, self.steps, self.seconds, self.log = (saved[name] for name in ("seen", "steps", "seconds", "log"))

    def losses(self, batch, count=None):
        with torch.autocast(DEVICE.type, torch.bfloat16, enabled=self.recipe["bf16"]):
            return LOSSES[self.name](self.model, self.config, batch, self.recipe, count)

    def step(self, batch, share, count=None):
        """One step at `share` 0..1 of the time: the rate warms up, stays, and falls to zero over the last part."""
        size = len(batch[0])
        rate = min(1, (self.seen + size) / self.recipe["warmupScenes"]) * min(1, (1 - share) / self.recipe["decayShare"])
        losses = self.losses(batch, count)
        for optimizer, lr in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr * rate
            optimizer.zero_grad(set_to_none=True)
        losses.mean().backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer, _ in self.optimizers:
            optimizer.step()
        self.seen, self.steps = self.seen + size, self.steps + 1
        with torch.no_grad():
            kept = min(self.recipe["average"], (1 + self.steps) / (10 + self.steps))
            torch._foreach_lerp_(self.average, list(self.model.parameters()), 1 - kept)
        return losses.detach()

    def save(self, seconds):
        state = {"model": self.model.state_dict(), "average": self.average,
                 "optimizers": [optimizer.state_dict() for optimizer, _ in self.optimizers], "seen": self.seen,
                 "steps": self.steps, "seconds": seconds, "log": self.log, "config": self.config}
        torch.save(state, self.path.with_suffix(".tmp"))
        self.path.with_suffix(".tmp").rename(self.path)


def load_trained(name, folder, recipe):
    """What `Training` has saved -> the network with its averaged weights, config.json by the recipe as it is now, and the log."""
    saved = torch.load(Path(folder) / "training.pt", map_location=DEVICE, weights_only=False)
    config = make_config(name, recipe, saved["config"]["transformer"]["vocab_size"], saved["config"]["latent"])
    network = NETWORKS[name](config).to(DEVICE).eval()
    with torch.no_grad():
        for parameter, value in zip(network.parameters(), saved["average"], strict=True):
            parameter.copy_(value)
    return network, config, saved["log"]


def held_out_losses(training, batches):
    """Of the last scenes, with the same captions, noise and times each time."""
    held = np.arange(len(batches.latents) - 128, len(batches.latents))
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        return training.losses(batches.next(held, np.random.default_rng(0)))


def main():
    parser = argparse.ArgumentParser()
    for name in ("config", "tokens", "latents", "tokenizer", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--model", required=True, choices=["ecar", "dit"])
    parser.add_argument("--minutes", type=float, help="overrides the configured length, of all runs together")
    parser.add_argument("--from", dest="source", help="the folder of a trained discrete transformer to begin with")
    args = parser.parse_args()
    whole = json.loads(Path(args.config).read_text())
    recipe, out = whole["ecar"], Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer.from_file(str(Path(args.tokenizer) / "tokenizer.json"))
    nothing = np.array(tokenizer.encode(whole["transformer"]["unconditionalPrompt"], add_special_tokens=False).ids)
    batches = Batches(Path(args.tokens), Path(args.latents), nothing, recipe)
    latent = json.loads((Path(args.latents) / "latent.json").read_text())
    training = Training(args.model, recipe, tokenizer.get_vocab_size(), latent, out, args.source)
    print(json.dumps({"parameters": sum(p.numel() for p in training.model.parameters()), "taken": training.taken}), flush=True)
    rng = np.random.default_rng([recipe["seed"], training.seen])
    torch.manual_seed(recipe["seed"] + training.seen)
    total = 60 * (args.minutes or recipe["minutes"])
    before, started, reported, saved_at, window = training.seconds, seconds_now(), seconds_now(), seconds_now(), []
    elapsed = lambda: before + seconds_now() - started
    coarse = recipe["coarse"] if args.model == "ecar" else {"share": 0}
    while (share := elapsed() / total) < 1:
        part = coarse if rng.random() < coarse["share"] else {"batch": recipe["batch"]}
        scenes = batches.pick(share, part["batch"], rng)
        window.append((len(scenes), training.step(batches.next(scenes, rng), share, part.get("stages"))))
        if seconds_now() - reported > recipe["reportSeconds"]:
            rounded = lambda losses: [round(float(loss), 4) for loss in losses]
            seen = torch.nn.utils.rnn.pad_sequence([losses for _, losses in window], padding_value=float("nan"))
            row = {"scenes": training.seen, "seconds": round(elapsed()), "losses": rounded(seen.nanmean(1)),
                   "heldOutLosses": rounded(held_out_losses(training, batches)),
                   "perSecond": round(sum(size for size, _ in window) / (seconds_now() - reported), 1)}
            training.log.append(row)
            print(json.dumps(row), flush=True)
            window, reported = [], seconds_now()
            if seconds_now() - saved_at > recipe["saveSeconds"]:
                training.save(elapsed())
                saved_at = seconds_now()
    training.save(elapsed())


if __name__ == "__main__":
    main()
