"""From text to latents: the reference that serving is held against.

Rows are images; the unconditional branch is run beside the conditional one, and only where guidance needs it.
"""

from itertools import count

import torch

from ecar_config import stages_of
from ecar_schedule import guidance_scales, jump, preview, solve


def guided(conditional, unconditional, scale):
    return unconditional + scale * (conditional - unconditional)


@torch.no_grad()
def sample_ecar(model, config, prompts, nothing, noises, scale, feedback=True, maps=None, watch=lambda name, value: None):
    """Latents [B, C, R, R] of unit variance, and a preview of the clean latent X_s after each stage.

    prompts, nothing: (ids [B, P], lengths [B]) with the text and without; noises: for each stage white noise
    [B, C, h_s, h_s]; scale: of guidance at its full share, 1 is off; maps: stands in for the token maps it is given;
    watch(name, value) sees whatever is computed, by the names of the fixtures.
    """
    stages = stages_of(config)
    scales = guidance_scales(scale, [stage["guidance_share"] for stage in config["stages"]])
    ends, contexts, previews, x = [], [], [], None
    for s, stage in enumerate(stages):
        x = noises[0] if s == 0 else jump(x, noises[s], stage)
        watch(f"start.{s}", x)
        branches = {"conditional": model.token_maps(*prompts, contexts)[s]}
        if scale != 1:
            branches["unconditional"] = model.token_maps(*nothing, contexts)[s]
        for name, token_map in branches.items():
            watch(f"{name}.map.{s}", token_map)
        if maps is not None:
            branches = {name: maps(token_map) for name, token_map in branches.items()}
        numbers = count()

        def velocity(x, tau):
            number = next(numbers)
            time = torch.full((len(x),), stage.time(tau), device=x.device)
            both = {name: model.flow_head(x, time, s, token_map) for name, token_map in branches.items()
                    if name == "conditional" or scales[s] != 1}
            v = guided(both["conditional"], both["unconditional"], scales[s]) if len(both) == 2 else both["conditional"]
            for name, value in {"x": x, "time": time[:1], "velocity": v, **both}.items():
                watch(f"flow.{s}.{number}.{name}", value)
            return v

        x, last = solve(velocity, x, config["stages"][s]["solver_steps"], config["solver"])
        previews.append(preview(*last, stage))
        watch(f"end.{s}", x)
        watch(f"preview.{s}", previews[-1])
        contexts.append(x if feedback else torch.zeros_like(x))
    return x, previews


@torch.no_grad()
def sample_dit(model, prompts, nothing, noise, scale, steps, solver):
    """Latents [B, C, R, R] of unit variance; midpoint takes two evaluations a step."""
    prefixes = [model.prefix(*prompts)] + ([model.prefix(*nothing)] if scale != 1 else [])

    def velocity(x, tau):
        time = torch.full((len(x),), 1 - tau, device=x.device)
        branches = [model(x, time, prefix) for prefix in prefixes]
        return guided(*branches, scale) if scale != 1 else branches[0]

    return solve(velocity, noise, steps, solver)[0]


def unnormalise(latents, config):
    """What `decoder.jit` reads."""
    mean, scale = (torch.tensor(config["latent"][name], device=latents.device)[:, None, None] for name in ("mean", "scale"))
    return latents * scale + mean
