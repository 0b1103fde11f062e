"""The benchmark's judge: a small anchor-free detector in the way of FCOS (arXiv 1904.01355), one prediction a cell of 8 pixels.

It reads bytes and answers in pixels and probabilities, so that whoever runs it has nothing to prepare and nothing to scale.
"""

import torch
import torch.nn.functional as F
from torch import nn

SIDE = 96
STRIDE = 8
GRID = SIDE // STRIDE
UNIT = 48.0  # the side of an object of usual size in pixels: boxes are predicted relative to it


def convolution(inputs, outputs, kernel=3, stride=1):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
    )


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.first = convolution(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x):
        return F.relu(x + self.second(self.first(x)))


class Context(nn.Module):
    """Adds a view of the whole picture to every place: what is too crowded or too blurred shows only there."""

    def __init__(self, channels):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.ReLU(inplace=True), nn.Conv2d(channels, channels, 1))

    def forward(self, x):
        return F.relu(x + self.layers(x.mean((2, 3), keepdim=True)))


class Judge(nn.Module):
    def __init__(self, classes, colours, width):
        super().__init__()
        self.sizes = [1, 4, classes, colours]
        self.fine = nn.Sequential(
            nn.PixelUnshuffle(4), convolution(48, width), convolution(width, 2 * width, stride=2), Residual(2 * width),
        )
        self.coarse = nn.Sequential(
            convolution(2 * width, 5 * width, stride=2), Residual(5 * width), Context(5 * width), Residual(5 * width),
        )
        self.lateral = nn.Conv2d(5 * width, 2 * width, 1)
        self.head = nn.Sequential(convolution(2 * width, 3 * width), nn.Conv2d(3 * width, sum(self.sizes), 1))

    def trunk(self, images):
        """Bytes [B, 96, 96, 3] -> fine [B, 2 width, 12, 12] and coarse [B, 5 width, 6, 6]."""
        x = images.permute(0, 3, 1, 2).float() / 127.5 - 1
        fine = self.fine(x.contiguous(memory_format=torch.channels_last))
        return fine, self.coarse(fine)

    def heads(self, fine, coarse):
        """What `trunk` makes -> logits [B, 1 + 4 + classes + colours, 12, 12]."""
        return self.head(F.relu(fine + F.interpolate(self.lateral(coarse), scale_factor=2.0, mode="nearest")))

    def forward(self, images):
        return self.heads(*self.trunk(images))

    def parts(self, logits):
        """Logits -> (objectness [B, 12, 12], box [B, 12, 12, 4], class [B, 12, 12, classes], colour [B, 12, 12, colours])."""
        objectness, box, kind, colour = logits.permute(0, 2, 3, 1).split(self.sizes, dim=-1)
        return objectness.squeeze(-1), box, kind, colour
