"""What must hold before E-CAR is trained at size: `python test_ecar.py`, under a minute on one core.

Exact: the schedule, the covariance after a jump, the oracle, previews, block causality, padding, the codec's layout. Learned,
on 16 pictures of one prompt each: that they are learned by heart, that the token maps are what carries them, and what
feedback brings.
"""

import json

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from cosmos import inverse_haar
from cosmos_continuous import haar
from ecar_config import make_config
from ecar_model import Dit, Ecar
from ecar_sampler import sample_dit, sample_ecar
from ecar_schedule import down, endpoints, jump, make_stages, preview, pyramid, solve, up
from train_ecar import LOSSES, Batches, Training, begin_with

# The schedule of arXiv 2410.05954 as its code computes it: stages -> (a, b, alpha, beta, end of T).
TABLE = {
    2: [(1, 0.5, 1, 0, 0.4286), (0.6667, 0, 0.6667, 0.5774, 1)],
    3: [(1, 0.6667, 1, 0, 0.2564), (0.8, 0.3333, 0.6, 0.6928, 0.6154), (0.5, 0, 0.75, 0.433, 1)],
    4: [(1, 0.75, 1, 0, 0.1756), (0.8571, 0.5, 0.5714, 0.7423, 0.4264), (0.6667, 0.25, 0.6667, 0.5774, 0.7191), (0.4, 0, 0.8, 0.3464, 1)],
}
LAYERS = {"intermediateSize": 128, "heads": 4, "keyValueHeads": 2, "ropeTheta": 100}
RECIPE = {
    "seed": 5, "sides": [1, 2, 4], "solver": "midpoint", "solverSteps": [2, 2, 2], "guidanceShares": [0, 0.5, 1],
    "tokenMapChannels": 16, "maxPromptTokens": 8, "dropFeedback": 0.1, "draws": 2, "average": 0.98, "bf16": False,
    "muonLr": 0.02, "adamLr": 0.005, "weightDecay": 0.0, "warmupScenes": 160, "decayShare": 0.5,
    "transformer": {"hiddenSize": 64, "layers": 2, **LAYERS}, "flowHead": {"hiddenSize": 48, "layers": 2, **LAYERS},
    "dit": {"hiddenSize": 64, "layers": 3, **LAYERS},
}
CHANNELS, VOCABULARY, PICTURES, STEPS = 4, 40, 16, 200
UNIT = {"mean": [0.0] * CHANNELS, "scale": [1.0] * CHANNELS}


def test_schedule():
    for count, rows in TABLE.items():
        stages = make_stages([2**index for index in range(count)])
        for stage, row in zip(stages, rows):
            assert np.allclose((stage.start, stage.end, stage.alpha, stage.beta, stage.time_end), row, atol=6e-5), (count, stage)
        assert all(a.time_end == b.time_start for a, b in zip(stages, stages[1:])) and stages[0].time_start == 0


def matrix_of(function, side):
    """A linear function of one channel as a matrix, column by column."""
    basis = torch.eye(side * side, dtype=torch.float64).reshape(-1, 1, side, side)
    return function(basis).flatten(1).T


def test_covariance_after_jump():
    for count in TABLE:
        stages = make_stages([2 * 2**index for index in range(count)])
        for before, stage in zip(stages, stages[1:]):
            none = torch.zeros(1, 1, stage.side, stage.side, dtype=torch.float64)
            carried = matrix_of(lambda e: jump(before.end * e, none, stage), before.side)
            added = matrix_of(lambda n: jump(torch.zeros(1, 1, before.side, before.side, dtype=torch.float64), n, stage), stage.side)
            covariance = carried @ carried.T + added @ added.T
            assert torch.allclose(covariance, stage.start**2 * torch.eye(stage.side**2, dtype=torch.float64)), stage
            signal = jump((1 - before.end) * torch.ones(1, 1, before.side, before.side), none.float(), stage)
            assert torch.allclose(signal, torch.full_like(signal, 1 - stage.start)), stage


def test_pyramid_noise_is_white():
    whole = matrix_of(lambda e: pyramid(e, 3, 2)[0], 8)
    assert torch.allclose(whole @ whole.T, torch.eye(4, dtype=torch.float64))


def exact_velocity(clean, stage):
    """The velocity at a state, knowing the clean latents of this stage and the one before."""
    def velocity(x, tau):
        before = up(clean[0]) if clean[0] is not None else torch.zeros_like(clean[1])
        signal = tau * (1 - stage.start) * before + (1 - tau) * (1 - stage.end) * clean[1]
        noise = (x - signal) / (tau * stage.start + (1 - tau) * stage.end)
        return (1 - stage.end) * clean[1] - (1 - stage.start) * before + (stage.end - stage.start) * noise
    return velocity


def test_oracle_returns_the_clean_latent():
    for count in TABLE:
        stages = make_stages([2 * 2**index for index in range(count)])
        x0 = torch.randn(2, CHANNELS, stages[-1].side, stages[-1].side, dtype=torch.float64)
        clean = [None, *pyramid(x0, count, 1)]
        for solver, steps in (("euler", 1), ("euler", 3), ("midpoint", 1), ("midpoint", 4)):
            for index, stage in enumerate(stages):
                noise = torch.randn(2, CHANNELS, stage.side, stage.side, dtype=torch.float64)
                x = noise if index == 0 else jump(x, noise, stage)
                x, last = solve(exact_velocity(clean[index : index + 2], stage), x, steps, solver)
                assert torch.allclose(down(preview(*last, stage)), down(clean[index + 1])), (count, solver, steps)
            assert torch.allclose(x, x0), (count, solver, steps)


def test_endpoints_meet():
    stages = make_stages([2, 4, 8])
    x0, noise = torch.randn(1, 1, 8, 8), torch.randn(1, 1, 8, 8)
    pairs = endpoints(x0, noise, stages)
    assert torch.equal(pairs[-1][1], x0) and torch.allclose(pairs[0][0], 4 * down(down(noise)))
    for (_, end), (start, _), before, stage in zip(pairs, pairs[1:], stages, stages[1:]):
        e = noise if stage.side == 8 else 2 * down(noise)
        smooth = stage.alpha * up(end - before.end * 2 * down(e)) + stage.start * e
        assert torch.allclose(start, smooth, atol=1e-6)  # Equal signal; the noise is white again.


def wake(model):
    """Give zero-initialised outputs weights, so that every part shows."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


@torch.no_grad()
def test_stages_see_only_what_came_before():
    model = wake(Ecar(make_config("ecar", RECIPE, VOCABULARY, UNIT)))
    ids, lengths = torch.randint(VOCABULARY, (2, 6)), torch.tensor([6, 4])
    ends = [torch.randn(2, CHANNELS, side, side) for side in (1, 2)]
    maps = model.token_maps(ids, lengths, ends)
    for count in range(2):
        for map_, whole in zip(model.token_maps(ids, lengths, ends[:count]), maps):
            assert torch.allclose(map_, whole, atol=1e-5)
    alone = model.token_maps(ids[1:, :4], lengths[1:], [end[1:] for end in ends])
    assert all(torch.allclose(a, b[1:], atol=1e-5) for a, b in zip(alone, maps))
    assert not torch.allclose(maps[1], model.token_maps(ids, lengths, [0 * ends[0]])[1], atol=1e-3)
    dit = wake(Dit(make_config("dit", RECIPE, VOCABULARY, UNIT)))
    x, time = torch.randn(2, CHANNELS, 4, 4), torch.rand(2)
    short = dit(x[1:], time[1:], dit.prefix(ids[1:, :4], lengths[1:]))
    assert torch.allclose(dit(x, time, dit.prefix(ids, lengths))[1:], short, atol=1e-5)


def test_haar():
    x = torch.randn(1, 3, 8, 12)
    assert torch.allclose(inverse_haar(haar(x)), x, atol=1e-6) and torch.allclose(haar(torch.ones(1, 1, 2, 2))[0, :, 0, 0], torch.eye(4)[0])


def pictures():
    """16 smooth latents of unit variance and a prompt of four tokens for each; the token 0 alone is no prompt."""
    coarse = F.interpolate(torch.randn(PICTURES, CHANNELS, 2, 2), size=4, mode="bilinear")
    x0 = coarse + 0.3 * torch.randn(PICTURES, CHANNELS, 4, 4)
    ids = torch.stack([torch.randperm(VOCABULARY - 1)[:4] + 1 for _ in range(PICTURES)])
    return x0 / x0.std(), ids, torch.full((PICTURES,), 4)


def learn(name, batch, folder):
    training = Training(name, RECIPE, VOCABULARY, UNIT, folder)
    for step in range(STEPS):
        x0, ids, lengths = batch
        dropped = (torch.rand(PICTURES) < 0.1)[:, None]
        training.step((x0, torch.where(dropped, 0, ids), torch.where(dropped[:, 0], 1, lengths)), step / STEPS)
    with torch.no_grad():
        for parameter, value in zip(training.model.parameters(), training.average):
            parameter.copy_(value)
    return training


def test_sixteen_pictures(folder):
    torch.manual_seed(7)
    batch = x0, ids, lengths = pictures()
    training = learn("ecar", batch, folder)
    noises = [torch.randn(PICTURES, CHANNELS, side, side) for side in RECIPE["sides"]]
    nothing = torch.zeros(PICTURES, 1, dtype=torch.long), torch.ones(PICTURES, dtype=torch.long)
    sample = lambda **options: sample_ecar(training.model, training.config, (ids, lengths), nothing, noises, **options)[0]
    error = lambda latents: round(F.mse_loss(latents, x0).item(), 3)
    results = {
        "guided": error(sample(scale=1.5)), "sampled": error(sample(scale=1)),
        "without feedback": error(sample(scale=1, feedback=False)),
        "maps zeroed": error(sample(scale=1, maps=torch.zeros_like)),
        "maps of another prompt": error(sample(scale=1, maps=lambda token_map: token_map.roll(1, 0))),
        "losses": [round(loss, 3) for loss in LOSSES["ecar"](training.model, training.config, batch, RECIPE).tolist()],
    }
    dit = learn("dit", batch, folder / "dit")
    results["dit"] = error(sample_dit(dit.model, (ids, lengths), nothing, noises[-1], 1, 12, "midpoint"))
    print(json.dumps(results))
    assert results["sampled"] < 0.15 and results["guided"] < 0.3 and results["dit"] < 0.3, results
    assert results["maps zeroed"] > 5 * results["sampled"], results
    assert results["maps of another prompt"] > 5 * results["sampled"], results


def test_coarse_steps_teach_what_whole_ones_do(folder):
    training = Training("ecar", RECIPE, VOCABULARY, UNIT, folder)
    wake(training.model)
    losses = []
    for count in (None, 2):
        torch.manual_seed(2)
        losses.append(training.losses(run_batch(), count))
    assert len(losses[0]) == 3 and torch.allclose(losses[0][:2], losses[1], rtol=1e-4), losses


def test_training_is_taken_up(folder):
    training = learn_a_little(folder)
    again = Training("ecar", RECIPE, VOCABULARY, UNIT, folder)
    assert (again.seen, again.steps, again.log) == (training.seen, training.steps, training.log)
    for run in (training, again):
        torch.manual_seed(3)
        run.losses_after = run.step(run_batch(), 0.5)
    assert torch.equal(training.losses_after, again.losses_after)
    assert all(torch.equal(a, b) for a, b in zip(training.model.parameters(), again.model.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(training.average, again.average))


def test_training_begins_with_a_discrete_transformer(folder):
    source = Ecar(make_config("ecar", RECIPE, VOCABULARY, UNIT)).model.state_dict()
    given = {f"model.{name}": torch.rand_like(value) for name, value in source.items()}
    given["model.embed_tokens.weight"] = torch.rand(VOCABULARY + 100, 64)
    save_file(given, folder / "model.safetensors")
    for network in (Ecar, Dit):
        model = network(make_config(network.__name__.lower(), RECIPE, VOCABULARY, UNIT))
        before = {name: parameter.clone() for name, parameter in model.named_parameters()}
        taken = begin_with(model, folder)
        after = {name.removeprefix("model."): parameter for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
        assert sum(parameter.numel() for parameter in after.values()) == taken > 0
        assert "embed_tokens.weight" in after and "layers.1.mlp.down_proj.weight" in after and "layers.2.mlp.down_proj.weight" not in after
        assert all(torch.equal(parameter, given[f"model.{name}"][: len(parameter)]) for name, parameter in after.items())


def test_scenes_are_drawn_from_what_is_encoded():
    batches = Batches.__new__(Batches)
    batches.done, batches.recipe = (3, 2), {"firstScenes": 10, "firstShare": 0.5}
    drawn = lambda share: set(batches.pick(share, 100, np.random.default_rng(1)).tolist())
    assert drawn(0.4) == {0, 1, 2} and drawn(0.5) == {0, 1, 2, 10, 11}


def run_batch():
    torch.manual_seed(4)
    return pictures()


def learn_a_little(folder):
    training = Training("ecar", RECIPE, VOCABULARY, UNIT, folder)
    for _ in range(3):
        training.step(run_batch(), 0.1)
    training.save(1.0)
    return training


def main():
    import tempfile
    import time
    from pathlib import Path

    for name, test in list(globals().items()):
        if not name.startswith("test_"):
            continue
        torch.manual_seed(1)
        started = time.time()
        with tempfile.TemporaryDirectory() as folder:
            test(*[Path(folder)] * test.__code__.co_argcount)
        print(f"{name} {time.time() - started:.1f} s", flush=True)


if __name__ == "__main__":
    main()
