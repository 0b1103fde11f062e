"""Mini-CLIP: one vector for a picture and one for a caption, near each other where the caption is true (arXiv 2103.00020).

It is the reward of GRPO, as the published CLIP is in SimpleAR. It has nothing in common with the benchmark's judge: another
network, another loss, other pictures.
"""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

MAX_TEXT = 64


def convolution(inputs, outputs, stride=1):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class ImageEncoder(nn.Module):
    """Patches as the codec cuts them, then convolutions; what lies where is kept until the last layer."""

    def __init__(self, side, patch, width, size):
        super().__init__()
        self.layers = nn.Sequential(
            nn.PixelUnshuffle(patch), nn.Conv2d(3 * patch**2, width, 1), nn.ReLU(inplace=True), convolution(width, width),
            convolution(width, 2 * width, 2), convolution(2 * width, 2 * width), nn.Conv2d(2 * width, width // 2, 1), nn.Flatten(),
            nn.Linear(width // 2 * (side // patch // 2) ** 2, size))

    def forward(self, images):
        """[-1, 1] floats [B, 3, side, side] -> [B, size]"""
        return self.layers(images)


class TextEncoder(nn.Module):
    """A causal transformer, the mean over its tokens. A noun sees only what stands before it: so "a dog left of a cat" needs no comparing
    of positions to differ from "a cat left of a dog"."""

    def __init__(self, vocabulary, width, layers, size):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.embed_position = nn.Parameter(torch.randn(MAX_TEXT, width))
        layer = nn.TransformerEncoderLayer(width, width // 32, 4 * width, dropout=0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(width), enable_nested_tensor=False)
        self.project = nn.Linear(width, size)

    def forward(self, ids, lengths):
        """[B, T], [B] -> [B, size]"""
        is_text = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        is_later = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device).triu(1)
        hidden = self.layers(self.embed(ids) + self.embed_position[: ids.shape[1]], mask=is_later, is_causal=True)
        return self.project((hidden * is_text[..., None]).sum(1) / lengths[:, None])


class MiniClip(nn.Module):
    def __init__(self, config, side, patch, vocabulary):
        super().__init__()
        self.image = ImageEncoder(side, patch, config["imageWidth"], config["size"])
        self.text = TextEncoder(vocabulary, config["textWidth"], config["textLayers"], config["size"])
        self.sharpness = nn.Parameter(torch.tensor(math.log(10.0)))

    def see(self, images):
        """[-1, 1] floats [B, 3, side, side] -> unit vectors [B, size]"""
        return F.normalize(self.image(images), dim=-1)

    def read(self, ids, lengths):
        """Text tokens [B, T] padded at the end, their numbers [B] -> unit vectors [B, size]"""
        return F.normalize(self.text(ids, lengths), dim=-1)


def build(whole, vocabulary):
    """By a whole configuration, for so many text tokens."""
    return MiniClip(whole["clip"], whole["scenes"]["imagePixels"], whole["codec"]["patchPixels"], vocabulary)


def load(whole, vocabulary, folder):
    """The trained one of a folder that train_clip.py wrote, to be asked and not trained."""
    clip = build(whole, vocabulary)
    clip.load_state_dict(torch.load(Path(folder) / "training.pt", map_location="cpu", weights_only=False)["model"])
    return clip.eval()


def contrast(images, texts, negatives, is_negative, is_same, sharpness):
    """How well true pairs stand out, in nats.

    @param images [B + S, D] unit vectors: of every scene, then of the first S scenes' spoiled pictures
    @param texts [B, D], negatives [B, K, D]: true captions, and those false of the same scene (`is_negative` [B, K] where there are)
    @param is_same [B, B]: scenes that are no contrast to each other because they are equal
    """
    count, spoiled = len(texts), len(images) - len(texts)
    scale = sharpness.clamp(max=math.log(100)).exp()
    alike = is_same & ~torch.eye(count, dtype=torch.bool, device=texts.device)
    pairs = scale * images @ texts.T
    hard = scale * (images[:count, None] * negatives).sum(-1)
    by_image = torch.cat([pairs[:count].masked_fill(alike, -torch.inf), hard.masked_fill(~is_negative, -torch.inf)], 1)
    by_text = torch.cat([pairs[:count].masked_fill(alike, -torch.inf), pairs[count:]], 0).T
    truth = torch.arange(count, device=texts.device)
    return (F.cross_entropy(by_image, truth) + F.cross_entropy(by_text, truth)) / 2
