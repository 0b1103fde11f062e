"""The arithmetic of group relative policy optimisation (GRPO, arXiv 2402.03300) as SimpleAR uses it: `test_grpo.py` works it by hand."""

import torch


def advantages(rewards):
    """How much better each image is than the others of its prompt, in deviations of the group. [P, G] -> [P, G]"""
    return (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)


def most_telling(rewards, count):
    """The `count` prompts whose images differ most in reward, [P, G] -> [count], ascending.

    Where all images are about as good, deviations are noise that `advantages` makes as large as any (as in DAPO's dynamic sampling,
    arXiv 2503.14476, which leaves out groups without differences).
    """
    return rewards.std(1).topk(count).indices.sort().values


def objective(now, then, reference, advantage, clip, beta):
    """The loss to go down, the KL divergence and the share of tokens whose gain was clipped, each a mean over tokens.

    @param now, then, reference log-probabilities [B, N] of the sampled tokens: by the model, by the model that sampled them, and by
        the model that training began with. The KL estimator is the unbiased, never negative `r - log r - 1` of r = reference / now.
    @param advantage [B]
    """
    ratio, gain = (now - then).exp(), advantage[:, None]
    clipped = ratio.clamp(1 - clip, 1 + clip)
    kl = (reference - now).exp() - (reference - now) - 1
    loss = beta * kl - torch.minimum(ratio * gain, clipped * gain)
    return loss.mean(), kl.mean(), (clipped * gain < ratio * gain).float().mean()


def reason_to_stop(rewards, divergences, window, max_kl):
    """Why to stop after these steps, or None; decided after each `window` of them, on that window's means.

    `divergence`: the KL divergence is above `max_kl`. `reward`: for two windows in a row the reward was not above the best one before.
    """
    count = len(rewards) // window
    if count == 0 or len(rewards) % window > 0:
        return None
    means = torch.tensor(rewards).view(count, window).mean(1)
    if sum(divergences[-window:]) / window > max_kl:
        return "divergence"
    return "reward" if count > 2 and means[-2:].max() <= means[:-2].max() else None
