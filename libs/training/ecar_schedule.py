"""Stages of the flow: where each begins and ends, its noise, what is learned, and how it is solved.

x is a latent [B, C, H, H] of unit variance, X_S = x0 the clean one, X_{s-1} = D(X_s), D the mean of 2 x 2 cells, U nearest
neighbours. a is the share of noise at a stage's start, b at its end; tau runs from 1 at the start to 0 at the end.

    b_s = 1 - s / S      o_s = 1 - b_{s-1}      alpha_s = 1 / (2 - o_s)      beta_s = sqrt(3) alpha_s (1 - o_s)
    a_1 = 1              a_s = 1 - alpha_s o_s
    start_1 = e_1        start_s = (1 - a_s) U(X_{s-1}) + a_s e_s            end_s = (1 - b_s) X_s + b_s e_s
    x_tau = tau start_s + (1 - tau) end_s          u_s = end_s - start_s     dx = -u dtau
    e_S ~ N(0, I)        e_{s-1} = 2 D(e_s)        in training, where all stages share one noise
    jump to stage s:     x <- alpha_s U(x) + beta_s n'     n' = (2 / sqrt 3) (n - U(D(n)))     n ~ N(0, I)

n' has variance 1, covariance -1/3 inside a 2 x 2 block and 0 across, which makes U(e_{s-1}) white again: after the jump the
noise is N(0, a_s^2 I) and the signal 1 - a_s, as at start_s. The time T that the network is told runs from 0 to 1 over all
stages; each has a share in proportion to a_s - b_s.

E-CAR: Yuan et al., arXiv 2412.14170 (its own sizes are not known to us). Schedule: Jin et al., arXiv 2410.05954, eq. 15.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Stage:
    """One resolution level; every field is written to config.json."""

    side: int  # cells along each side
    start: float  # a
    end: float  # b
    alpha: float  # of the jump into this stage; 1 at the first
    beta: float  # 0 at the first
    time_start: float  # T at tau = 1
    time_end: float  # T at tau = 0

    def time(self, tau):
        return self.time_end + tau * (self.time_start - self.time_end)


def make_stages(sides):
    """Stages of the given sides, coarse to fine, each twice the one before."""
    count = len(sides)
    ends = [1 - (index + 1) / count for index in range(count)]
    alphas, betas, starts = [1.0], [0.0], [1.0]
    for end in ends[:-1]:
        alphas.append(1 / (1 + end))
        betas.append(3**0.5 * alphas[-1] * end)
        starts.append(1 - alphas[-1] * (1 - end))
    spans = [a - b for a, b in zip(starts, ends)]
    cuts = [sum(spans[:index]) / sum(spans) for index in range(count + 1)]
    return [Stage(*fields) for fields in zip(sides, starts, ends, alphas, betas, cuts, cuts[1:])]


def down(x):
    """D: [B, C, 2H, 2H] -> [B, C, H, H]."""
    return F.avg_pool2d(x, 2)


def up(x):
    """U: [B, C, H, H] -> [B, C, 2H, 2H]."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def pyramid(x, count, factor):
    """[x_1 .. x_count], coarse to fine, each `factor` times the mean of the next: 1 for latents, 2 for noise."""
    levels = [x]
    while len(levels) < count:
        levels.insert(0, factor * down(levels[0]))
    return levels


def endpoints(x0, noise, stages):
    """Clean latent and noise [B, C, R, R] -> for each stage (start, end)."""
    clean, e = pyramid(x0, len(stages), 1), pyramid(noise, len(stages), 2)
    pairs = []
    for index, stage in enumerate(stages):
        signal = up(clean[index - 1]) if index > 0 else torch.zeros_like(clean[0])
        start = (1 - stage.start) * signal + stage.start * e[index]
        pairs.append((start, (1 - stage.end) * clean[index] + stage.end * e[index]))
    return pairs


def jump(x, noise, stage):
    """The end of the stage before [B, C, H, H] and white noise [B, C, 2H, 2H] -> the start of this one."""
    return stage.alpha * up(x) + stage.beta * (2 / 3**0.5) * (noise - up(down(noise)))


def solve(velocity, x, steps, solver):
    """Follow `velocity(x, tau)` from tau = 1 to 0 in equal steps. midpoint: two evaluations a step; euler: one.

    -> the end, and the last evaluation (x, tau, v), from which `preview` tells the clean latent.
    """
    for step in range(steps):
        tau = 1 - step / steps
        last = (x, tau, velocity(x, tau))
        if solver == "midpoint":
            middle = tau - 0.5 / steps
            x_middle = x + 0.5 / steps * last[2]
            last = (x_middle, middle, velocity(x_middle, middle))
        x = x + last[2] / steps
    return x, last


def preview(x, tau, v, stage):
    """The clean latent X_s that a state and its velocity point to; exact for the means of 2 x 2 cells if v is."""
    start, end = x - (1 - tau) * v, x + tau * v
    return (stage.start * end - stage.end * start) / (stage.start - stage.end)


def guidance_scales(scale, shares):
    """The scale w_s of each stage, `v_u + w_s (v_c - v_u)`: 1 + share (scale - 1)."""
    return [1 + share * (scale - 1) for share in shares]
