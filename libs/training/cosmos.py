"""The discrete-image codec in the Cosmos tokenizer's layout (module names, shapes and order of operations), plus the
patch-local encoder that our recipe trains it with.

Only the decoder is ever served, so only the decoder has the published layout: post_quant_conv -> conv_in -> mid ->
up levels (coarsest last in the list, first in time) -> norm_out -> swish -> conv_out -> inverse Haar.
Facts: NVIDIA Cosmos-Tokenizer, cosmos_tokenizer/networks/configs.py and modules/layers2d.py, patching.py, quantizers.py.
FSQ: Mentzer et al., arXiv 2309.15505.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn


class FSQ(nn.Module):
    """Finite scalar quantisation: each channel is rounded to one of a few levels; channel 0 is the fastest digit."""

    def __init__(self, levels: list[int]):
        super().__init__()
        basis = [math.prod(levels[:i]) for i in range(len(levels))]
        self.register_buffer("_levels", torch.tensor(levels), persistent=False)
        self.register_buffer("_basis", torch.tensor(basis), persistent=False)
        self.codebook_size = math.prod(levels)
        self.register_buffer("implicit_codebook", self.codes(torch.arange(self.codebook_size)), persistent=False)

    def bound(self, z):
        """Squash [..., D] so that rounding gives exactly the levels."""
        half = (self._levels - 1) * (1 + 1e-3) / 2
        offset = torch.where(self._levels % 2 == 0, 0.5, 0.0)
        return torch.tanh(z + torch.atanh(offset / half)) * half - offset

    def forward(self, z):
        """z [..., D] -> codes [..., D] in [-1, 1], with a straight-through gradient."""
        bounded = self.bound(z.float())
        rounded = bounded + (bounded.round() - bounded).detach()
        return rounded / (self._levels // 2)

    def indices(self, codes):
        """codes [..., D] -> ids [...]."""
        half = self._levels // 2
        return ((codes * half + half).round().long() * self._basis).sum(-1)

    def codes(self, ids):
        """ids [...] -> codes [..., D]."""
        digits = (ids[..., None] // self._basis) % self._levels
        return (digits - self._levels // 2) / (self._levels // 2)


def norm(channels):
    return nn.GroupNorm(32, channels, eps=1e-6)


def swish(x):
    return x * torch.sigmoid(x)


class ResnetBlock(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.norm1 = norm(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2 = norm(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.nin_shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x):
        h = self.conv1(swish(self.norm1(x)))
        h = self.conv2(swish(self.norm2(h)))
        return self.nin_shortcut(x) + h


class AttnBlock(nn.Module):
    """One head over all positions, width = channels."""

    def __init__(self, channels):
        super().__init__()
        self.norm = norm(channels)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        b, c, h, w = x.shape
        y = self.norm(x)
        q, k, v = (f(y).reshape(b, c, h * w) for f in (self.q, self.k, self.v))
        attention = torch.softmax((q.transpose(1, 2) @ k) * c**-0.5, dim=-1)  # [B, query, key]
        out = v @ attention.transpose(1, 2)
        return x + self.proj_out(out.reshape(b, c, h, w))


class Upsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def inverse_haar(x):
    """One level: [B, 4C, H, W], bands in order (w, h) -> [B, C, 2H, 2W]; net factor 1."""
    ll, lh, hl, hh = x.chunk(4, dim=1)  # index 2w + h
    even_even = ll + lh + hl + hh
    even_odd = ll + lh - hl - hh  # odd column flips the bands that are high along the width
    odd_even = ll - lh + hl - hh
    odd_odd = ll - lh - hl + hh
    stacked = torch.stack([even_even, even_odd, odd_even, odd_odd], dim=2).flatten(1, 2)
    return F.pixel_shuffle(stacked, 2)


class Decoder(nn.Module):
    def __init__(self, channels, channels_mult, num_res_blocks, z_channels, patch_size):
        super().__init__()
        self.haar_levels = int(math.log2(patch_size))
        width = channels * channels_mult[-1]
        self.conv_in = nn.Conv2d(z_channels, width, 3, padding=1)
        self.mid = nn.Module()
        self.mid.block_1 = ResnetBlock(width, width)
        self.mid.attn_1 = AttnBlock(width)
        self.mid.block_2 = ResnetBlock(width, width)
        self.up = nn.ModuleList()
        for level in reversed(range(len(channels_mult))):
            up = nn.Module()
            up.block = nn.ModuleList()
            for _ in range(num_res_blocks + 1):
                up.block.append(ResnetBlock(width, channels * channels_mult[level]))
                width = channels * channels_mult[level]
            if level > 0:
                up.upsample = Upsample(width)
            self.up.insert(0, up)
        self.norm_out = norm(width)
        self.conv_out = nn.Conv2d(width, 3 * patch_size**2, 3, padding=1)

    def forward(self, z):
        x = self.conv_in(z)
        x = self.mid.block_2(self.mid.attn_1(self.mid.block_1(x)))
        for level in reversed(range(len(self.up))):
            for block in self.up[level].block:
                x = block(x)
            if level > 0:
                x = self.up[level].upsample(x)
        x = self.conv_out(swish(self.norm_out(x)))
        for _ in range(self.haar_levels):
            x = inverse_haar(x)
        return x


class InverseQuantizer(nn.Module):
    """Ids [B, H, W] -> codes [B, D, H, W]; holds the quantizer's buffers under the published names."""

    def __init__(self, levels):
        super().__init__()
        self.quantizer = FSQ(levels)

    def forward(self, ids):
        return self.quantizer.codes(ids).permute(0, 3, 1, 2)


class TokenDecoder(nn.Module):
    """What `decoder.jit` holds: inv_quant, post_quant_conv, decoder. Ids [B, H, W] -> pixels [B, 3, 8H, 8W]."""

    def __init__(self, levels, channels, channels_mult, num_res_blocks, z_channels, patch_size):
        super().__init__()
        self.inv_quant = InverseQuantizer(levels)
        self.post_quant_conv = nn.Conv2d(len(levels), z_channels, 1)
        self.decoder = Decoder(channels, channels_mult, num_res_blocks, z_channels, patch_size)

    def decode_codes(self, codes):
        return self.decoder(self.post_quant_conv(codes))

    def forward(self, ids):
        return self.decode_codes(self.inv_quant(ids))


def to_patches(images, p):
    """[B, 3, H, W] -> [B, H/p, W/p, 3 p p]."""
    b, c, h, w = images.shape
    patches = images.reshape(b, c, h // p, p, w // p, p).permute(0, 2, 4, 1, 3, 5)
    return patches.reshape(b, h // p, w // p, c * p * p)


class PatchEncoder(nn.Module):
    """Sees only its own patch, so that the same drawing gives the same tokens wherever it stands on the grid."""

    def __init__(self, levels, patch_pixels, width):
        super().__init__()
        self.patch_pixels = patch_pixels
        self.layers = nn.Sequential(
            nn.Linear(3 * patch_pixels**2, width), nn.GELU(), nn.Linear(width, width), nn.GELU(),
            nn.Linear(width, len(levels)),
        )

    def forward(self, images):
        """Pixels [B, 3, H, W] in [-1, 1] -> unbounded codes [B, H/p, W/p, D]."""
        return self.layers(to_patches(images, self.patch_pixels))


class PatchDecoder(nn.Module):
    """One patch back from its own code: only a partner to train the encoder with, never served."""

    def __init__(self, levels, patch_pixels, width):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(len(levels), width), nn.GELU(), nn.Linear(width, 2 * width), nn.GELU(),
            nn.Linear(2 * width, 3 * patch_pixels**2),
        )

    def forward(self, codes):
        return self.layers(codes)
