"""What must hold before GRPO runs: `python test_grpo.py`, seconds on one core."""

import math

import torch

from clip import TextEncoder, contrast
from grpo import advantages, most_telling, objective, reason_to_stop
from rollout import kept, log_probabilities, sample
from select_scenes import Shares, choose
from train_transformer import build

TINY = {"hiddenSize": 32, "intermediateSize": 64, "layers": 2, "heads": 4, "keyValueHeads": 2, "maxPositions": 64}
TEXT, CODES = 10, 20


def near(value, expected):
    assert torch.allclose(torch.as_tensor(value), torch.as_tensor(expected), atol=1e-5), (value, expected)


def test_advantages():
    # Mean 2, sample deviation 1; a group without differences teaches nothing.
    near(advantages(torch.tensor([[1.0, 2.0, 3.0], [0.5, 0.5, 0.5]])), torch.tensor([[-1.0, 0, 1.0], [0, 0, 0]]) / 1.0001)


def test_the_most_telling_prompts_are_learned_from():
    rewards = torch.tensor([[0.5, 0.5], [0.1, 0.9], [0.4, 0.5], [0.2, 0.8]])
    assert most_telling(rewards, 2).tolist() == [1, 3] and most_telling(rewards, 3).tolist() == [1, 2, 3]


def test_objective():
    log = lambda *values: torch.tensor([values]).log()
    # Ratios 1.5 and 0.5 at advantage 2: min(3, 2.4) = 2.4 is clipped, min(1, 1.6) = 1 is not.
    loss, kl, share = objective(log(0.6, 0.2), log(0.4, 0.4), log(0.6, 0.2), torch.tensor([2.0]), 0.2, 0.04)
    near([loss, kl, share], [-(2.4 + 1) / 2, 0.0, 0.5])
    # At advantage -1: min(-1.5, -1.2) = -1.5 is not clipped, min(-0.5, -0.8) = -0.8 is.
    loss, _, share = objective(log(0.6, 0.2), log(0.4, 0.4), log(0.6, 0.2), torch.tensor([-1.0]), 0.2, 0.04)
    near([loss, share], [(1.5 + 0.8) / 2, 0.5])
    # Reference twice and half as likely: 2 - ln 2 - 1 and 0.5 + ln 2 - 1, whose mean is 0.25.
    loss, kl, _ = objective(log(0.25, 0.5), log(0.25, 0.5), log(0.5, 0.25), torch.tensor([0.0]), 0.2, 0.04)
    near([kl, loss], [0.25, 0.04 * 0.25])


def test_gradient_goes_towards_the_better_image():
    logits = torch.zeros(2, 3, requires_grad=True)
    now = logits.log_softmax(-1)[torch.arange(2), torch.tensor([0, 1])][:, None]
    objective(now, now.detach(), now.detach(), advantages(torch.tensor([[1.0, 0.0]])).ravel(), 0.2, 0.04)[0].backward()
    assert logits.grad[0, 0] < 0 < logits.grad[1, 1]


def test_stop_rule():
    stop = lambda rewards, kl=0.0: reason_to_stop(rewards, [kl] * len(rewards), 2, 0.1)
    assert stop([1.0, 1, 2, 2, 3, 3]) is None
    assert stop([3.0, 3, 2, 2, 3, 3]) == "reward"
    assert stop([3.0, 3, 2, 2, 3]) is None, "only whole windows decide"
    assert stop([3.0, 3, 2, 2, 3, 4]) is None
    assert stop([1.0, 2], 0.2) == "divergence"


def test_cached_sampling_has_the_law_of_the_whole_pass():
    torch.manual_seed(1)
    model = build(TINY, TEXT, CODES)
    ids = torch.randint(0, TEXT, (3, 5))
    drawn, chances = sample(model, ids, 2, 12, CODES)
    near(log_probabilities(model, ids.repeat_interleave(2, 0), drawn, CODES), chances)
    assert (drawn[0] != drawn[1]).any(), "images of one text differ"
    # Rows of another text would have other chances: the control that rows are not mixed up.
    assert (log_probabilities(model, ids.roll(1, 0).repeat_interleave(2, 0), drawn, CODES) - chances).abs().max() > 1e-3
    same, guided = (sample(model, ids, 2, 4, CODES, ids[0, :2], scale)[1] for scale in (1.0, 3.0))
    assert same.shape == guided.shape


def test_kept_tokens():
    logits = torch.tensor([[0.5, 0.3, 0.2]]).log()
    near(kept(logits, 2, 1.0).exp(), [[0.5, 0.3, 0.0]])
    near(kept(logits, 0, 0.5).exp(), [[0.5, 0.0, 0.0]])
    near(kept(logits, 0, 0.51).exp(), [[0.5, 0.3, 0.0]])


def test_contrast():
    # Two scenes at right angles, sharpness 1: each row has logits 1 (true) and 0 (other), scene 0 a false caption at 0 besides,
    # and a spoiled picture of scene 0 at 1 / sqrt 2 for caption 0 and for caption 1.
    eye, diagonal = torch.eye(2), torch.full((1, 2), 0.5 ** 0.5)
    images, negatives = torch.cat([eye, diagonal]), eye.flip(0)[:, None]
    e, half = math.e, math.exp(0.5 ** 0.5)
    by_image = (-math.log(e / (e + 2)) - math.log(e / (e + 1))) / 2
    by_text = -math.log(e / (e + 1 + half))
    there = torch.tensor([[True], [False]])
    near(contrast(images, eye, negatives, there, torch.eye(2, dtype=torch.bool), torch.tensor(0.0)), (by_image + by_text) / 2)
    # Equal scenes are no contrast to each other.
    alone = contrast(eye, eye, negatives, there & False, torch.ones(2, 2, dtype=torch.bool), torch.tensor(0.0))
    near(alone, 0.0)


def test_text_encoder_reads_the_order_of_words():
    torch.manual_seed(1)
    encoder, ids, lengths = TextEncoder(TEXT, 32, 2, 16), torch.tensor([[1, 2, 3, 0], [3, 2, 1, 0]]), torch.tensor([3, 3])
    likeness = lambda: torch.cosine_similarity(*encoder(ids, lengths), dim=0)
    assert likeness() < 0.99, likeness()
    near(encoder(ids[:1], lengths[:1]), encoder(ids[:1, :3], lengths[:1]))
    with torch.no_grad():  # It does so by what stands before what, without positions too.
        encoder.embed_position.zero_()
    assert likeness() < 0.99, likeness()


def test_selection_is_even():
    objects = ["dog"] * 30 + ["cat"] * 10
    records = [{"task": "single_object", "items": [{"object": name}]} for name in objects]
    shares = {"single_object": Shares(records, 12)}
    chosen, poor = choose(records, range(40), shares, lambda numbers: [number != 30 for number in numbers], batch=2)
    counts = [sum(records[number]["items"][0]["object"] == name for number in chosen) for name in ("dog", "cat")]
    assert poor == 1 and counts == [7, 5] and 30 not in chosen, (poor, counts)


if __name__ == "__main__":
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            test()
            print(f"ok {name}")
