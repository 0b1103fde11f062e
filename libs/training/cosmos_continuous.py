"""The continuous-image codec in the Cosmos tokenizer's layout (CI): what `encoder.jit` and `decoder.jit` hold.

Encoder: Haar patching -> conv_in -> down levels (finest first) -> mid -> norm_out -> swish -> conv_out -> quant_conv. In
training quant_conv has two rows of channels, mean and log-variance; the exported one has the means alone.
Facts: NVIDIA Cosmos-Tokenizer, networks/configs.py, modules/layers2d.py. KL: Kingma & Welling, arXiv 1312.6114.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from cosmos import AttnBlock, Decoder, ResnetBlock, norm, swish


def haar(x):
    """One level: [B, C, 2H, 2W] -> [B, 4C, H, W], bands in order (w, h); the inverse of `cosmos.inverse_haar`."""
    a, b = x[..., 0::2, 0::2], x[..., 0::2, 1::2]
    c, d = x[..., 1::2, 0::2], x[..., 1::2, 1::2]
    return torch.cat([a + b + c + d, a + b - c - d, a - b + c - d, a - b - c + d], dim=1) / 4


class Downsample(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x):
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Encoder(nn.Module):
    def __init__(self, channels, channels_mult, num_res_blocks, z_channels, patch_size):
        super().__init__()
        self.haar_levels = int(math.log2(patch_size))
        width = channels
        self.conv_in = nn.Conv2d(3 * patch_size**2, width, 3, padding=1)
        self.down = nn.ModuleList()
        for level, factor in enumerate(channels_mult):
            down = nn.Module()
            down.block = nn.ModuleList()
            for _ in range(num_res_blocks):
                down.block.append(ResnetBlock(width, channels * factor))
                width = channels * factor
            if level < len(channels_mult) - 1:
                down.downsample = Downsample(width)
            self.down.append(down)
        self.mid = nn.Module()
        self.mid.block_1 = ResnetBlock(width, width)
        self.mid.attn_1 = AttnBlock(width)
        self.mid.block_2 = ResnetBlock(width, width)
        self.norm_out = norm(width)
        self.conv_out = nn.Conv2d(width, z_channels, 3, padding=1)

    def forward(self, x):
        for _ in range(self.haar_levels):
            x = haar(x)
        x = self.conv_in(x)
        for down in self.down:
            for block in down.block:
                x = block(x)
            x = down.downsample(x) if hasattr(down, "downsample") else x
        x = self.mid.block_2(self.mid.attn_1(self.mid.block_1(x)))
        return self.conv_out(swish(self.norm_out(x)))


class LatentEncoder(nn.Module):
    """Pixels [B, 3, H, W] in [-1, 1] -> mean [B, C, H/f, W/f], or its distribution."""

    def __init__(self, config):
        super().__init__()
        self.channels = config["latentChannels"]
        self.encoder = Encoder(config["encoderChannels"], config["channelsMult"], config["encoderResBlocks"],
                               config["zChannels"], config["patchSize"])
        self.quant_conv = nn.Conv2d(config["zChannels"], 2 * self.channels, 1)

    def distribution(self, pixels):
        """-> mean, log-variance."""
        mean, log_variance = self.quant_conv(self.encoder(pixels)).chunk(2, 1)
        return mean, log_variance.clamp(-20, 10)

    def forward(self, pixels):
        return self.quant_conv(self.encoder(pixels))[:, : self.channels]

    def means_only(self):
        """The same network in the published layout."""
        kept = nn.Conv2d(self.quant_conv.in_channels, self.channels, 1)
        kept.weight.data, kept.bias.data = self.quant_conv.weight[: self.channels].clone(), self.quant_conv.bias[: self.channels].clone()
        self.quant_conv = kept
        return self


class LatentDecoder(nn.Module):
    """Latents [B, C, H, W] -> pixels [B, 3, f H, f W]."""

    def __init__(self, config):
        super().__init__()
        self.post_quant_conv = nn.Conv2d(config["latentChannels"], config["zChannels"], 1)
        self.decoder = Decoder(config["channels"], config["channelsMult"], config["numResBlocks"], config["zChannels"],
                               config["patchSize"])

    def forward(self, latents):
        return self.decoder(self.post_quant_conv(latents))


def kl_divergence(mean, log_variance):
    """To the unit normal, in nats, mean over all values."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
