"""Layers that the stage transformer, its flow head and the baseline share: Hugging Face Qwen2's, without causality, turned by
row and column, and modulated by time where they denoise. See ecar_model.py for what they compute.
"""

import torch
import torch.nn.functional as F
from torch import nn


class RMSNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x):
        return F.rms_norm(x, x.shape[-1:], self.weight, self.eps)


class Rotation(nn.Module):
    """Cosines and sines [rows, D/2] for (row, column) pairs. See "Positions" above."""

    def __init__(self, places, head_size, theta):
        super().__init__()
        frequencies = theta ** (-torch.arange(head_size // 4, dtype=torch.float64) / (head_size // 4))
        angles = (torch.tensor(places, dtype=torch.float64)[:, :, None] * frequencies).flatten(1)
        self.register_buffer("cos", angles.cos().float(), persistent=False)
        self.register_buffer("sin", angles.sin().float(), persistent=False)

    def rows(self, start, end):
        return self.cos[start:end], self.sin[start:end]


def cell_places(side, grid):
    """(row, column) of the cells of a stage of `side` cells, in cells of `grid`."""
    middles = [(index + 0.5) * grid / side - 0.5 for index in range(side)]
    return [(row, column) for row in middles for column in middles]


def prefix_places(count, grid):
    return [(grid + index, grid + index) for index in range(count)]


def rotate(x, rotation):
    """[B, H, S, D]; element i turns with element i + D/2."""
    cos, sin = rotation
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, self.heads, self.key_heads = config["hidden_size"], config["num_attention_heads"], config["num_key_value_heads"]
        self.head_size = width // self.heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, self.key_heads * self.head_size)
        self.v_proj = nn.Linear(width, self.key_heads * self.head_size)
        self.o_proj = nn.Linear(width, width, bias=False)

    def forward(self, x, rotation, mask=None, past=None):
        """x [B, S, width]; mask [B, 1, S, T + S], true where a query sees a key; past keys and values [B, H, T, D].

        -> [B, S, width], (keys, values) of past and x
        """
        split = lambda y, heads: y.unflatten(-1, (heads, self.head_size)).transpose(1, 2)
        query = rotate(split(self.q_proj(x), self.heads), rotation)
        key = rotate(split(self.k_proj(x), self.key_heads), rotation)
        value = split(self.v_proj(x), self.key_heads)
        if past is not None:
            key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
        groups = self.heads // self.key_heads
        out = F.scaled_dot_product_attention(
            query, key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1), attn_mask=mask)
        return self.o_proj(out.transpose(1, 2).flatten(2)), (key, value)


class Mlp(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, inner = config["hidden_size"], config["intermediate_size"]
        self.gate_proj = nn.Linear(width, inner, bias=False)
        self.up_proj = nn.Linear(width, inner, bias=False)
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """A Qwen2 layer; `modulated` ones take six vectors between their parts."""

    def __init__(self, config, modulated=False):
        super().__init__()
        width = config["hidden_size"]
        self.input_layernorm = RMSNorm(width, config["rms_norm_eps"])
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RMSNorm(width, config["rms_norm_eps"])
        self.mlp = Mlp(config)
        if modulated:
            self.modulation = nn.Parameter(torch.zeros(6, width))
            self.modulation.data[[2, 5]] = 1  # Begins as a plain layer.

    def forward(self, x, rotation, mask=None, past=None, vectors=None):
        """vectors [B, 6, width] of time and stage, or none for a plain layer. -> x, (keys, values)"""
        if vectors is None:
            mixed, cache = self.self_attn(self.input_layernorm(x), rotation, mask, past)
            x = x + mixed
            return x + self.mlp(self.post_attention_layernorm(x)), cache
        shift1, scale1, gate1, shift2, scale2, gate2 = (vectors + self.modulation)[:, :, None].unbind(1)
        mixed, cache = self.self_attn(self.input_layernorm(x) * (1 + scale1) + shift1, rotation, mask, past)
        x = x + gate1 * mixed
        return x + gate2 * self.mlp(self.post_attention_layernorm(x) * (1 + scale2) + shift2), cache
