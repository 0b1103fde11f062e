"""E-CAR in small: a block-causal transformer that makes one token map a stage, and the flow head that denoises by it.

Neither code nor sizes of the published model (arXiv 2412.14170) are known to us: the reading is ours, and so is every number.

The transformer
    Sequence [prefix P | N_1 | .. | N_S], N_s = h_s^2 cells row by row. A prefix token sees the prefix (both ways), a cell of
    stage s the prefix and all cells of stages <= s. So the prefix and each stage can be run once, with a cache.
    prefix   embed_tokens[id]
    stage 1  position_embedding
    stage s  position_embedding + latent_embedding U(x_{s-1}), x_{s-1} the end of the stage before, before the jump.
             "No feedback" is zero in its place.
    Layers are those of Hugging Face Qwen2 (RMSNorm, grouped queries with biased q, k, v, rotary embedding, SwiGLU) under its
    names, without causality. M_s = token_map(norm(hidden)), [B, N_s, token_map_channels]: what goes over the wire.

The flow head
    h = latent_embedding x + token_map_embedding M_s + position_embedding, [B, N_s, hidden]; all cells of the stage see each
    other. Layers are the same with six vectors of the time T and the stage between them (adaLN-single, arXiv 2310.00426):
        c = silu(linear_1(time_features(T)));  c = linear_2(c) + stage_embedding[s];  m = modulation(silu(c)), [B, 6 hidden]
        shift1, scale1, gate1, shift2, scale2, gate2 = m.view(6, hidden) + layers.i.modulation
        h += gate1 * attention(input_layernorm(h) * (1 + scale1) + shift1)
        h += gate2 * mlp(post_attention_layernorm(h) * (1 + scale2) + shift2)
    and at the end shift, scale = c + output_modulation[0], c + output_modulation[1]; v = velocity(norm(h) * (1 + scale) + shift).
    time_features(T) = [cos(1000 T f_i), sin(1000 T f_i)], f_i = 10000^(-i / 128), i = 0 .. 127.

Positions
    Every position has a row and a column in cells of the finest grid, R to a side: cell (i, j) of stage s lies at
    ((i + .5) R / h_s - .5, the same of j); prefix token p lies at (R + p, R + p). Half the pairs of a head turn by the row and
    half by the column: of pair i (elements i and i + D/2, as in Qwen2), i < D/4, the angle is row * theta^(-i / (D/4)); of pair
    D/4 + i it is column * theta^(-i / (D/4)). position_embedding has a row for each cell of all stages, coarse to fine.

The baseline (`Dit`)
    The same layers as one network over [prefix | N_S]: the prefix sees itself alone and is not modulated, so it is run once;
    cells see all and are modulated by T. No stages: x_tau = tau e + (1 - tau) x0, T = 1 - tau, v = x0 - e.

The checkpoint folder
    config.json: all of this as fields, and `latent`, `stages`, `solver`, `guidance`; `transformer` reads as a Qwen2 config.
    model.safetensors: `model.*` (Qwen2's names), `position_embedding.weight`, `latent_embedding.weight`, `token_map.{weight,bias}`,
        `flow_head.*` as above. The baseline's: dit/config.json and dit/model.safetensors with `embed_tokens.weight` and the
        names of the flow head.
    decoder.jit, encoder.jit: a continuous Cosmos image tokenizer; x0 = (encoder(pixels) - mean) / scale, per channel.
    tokenizer.json, tessera.json: as beside a Qwen2 checkpoint.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from ecar_layers import Layer, RMSNorm, Rotation, cell_places, prefix_places

TIME_FREQUENCIES = 128


def rows_of(x):
    """[B, C, H, W] -> [B, H W, C]."""
    return x.flatten(2).transpose(1, 2)


def plane_of(rows):
    """[B, H H, C] -> [B, C, H, H]."""
    side = math.isqrt(rows.shape[1])
    return rows.transpose(1, 2).unflatten(2, (side, side))


class Velocity(nn.Module):
    """What the flow head and the baseline share: modulated layers from latents to velocities."""

    def __init__(self, config, channels, cells, stages):
        super().__init__()
        width = config["hidden_size"]
        self.latent_embedding = nn.Linear(channels, width, bias=False)
        self.position_embedding = nn.Embedding(cells, width)
        self.linear_1 = nn.Linear(2 * TIME_FREQUENCIES, width)
        self.linear_2 = nn.Linear(width, width)
        self.stage_embedding = nn.Embedding(stages, width)
        self.modulation = nn.Linear(width, 6 * width)
        self.layers = nn.ModuleList(Layer(config, modulated=True) for _ in range(config["num_hidden_layers"]))
        self.norm = RMSNorm(width, config["rms_norm_eps"])
        self.output_modulation = nn.Parameter(torch.zeros(2, width))
        self.velocity = nn.Linear(width, channels)
        frequencies = 10000 ** (-torch.arange(TIME_FREQUENCIES, dtype=torch.float64) / TIME_FREQUENCIES)
        self.register_buffer("frequencies", frequencies.float(), persistent=False)
        nn.init.normal_(self.position_embedding.weight, std=0.02)
        nn.init.zeros_(self.stage_embedding.weight)
        for zero in (self.modulation, self.velocity):
            nn.init.zeros_(zero.weight)
            nn.init.zeros_(zero.bias)

    def condition(self, time, stage):
        """time [B] in 0..1 -> [B, width], of which all vectors are made."""
        angles = 1000 * time[:, None] * self.frequencies
        return self.linear_2(F.silu(self.linear_1(torch.cat([angles.cos(), angles.sin()], -1)))) + self.stage_embedding.weight[stage]

    def run(self, h, condition, rotation, mask=None, prefix=None):
        """Embedded cells [B, N, width] -> velocity [B, C, side, side]; prefix: cached (keys, values) of each layer."""
        vectors = self.modulation(F.silu(condition)).unflatten(-1, (6, -1))
        for index, layer in enumerate(self.layers):
            h, _ = layer(h, rotation, mask, prefix[index] if prefix else None, vectors)
        shift, scale = (condition[:, None] + self.output_modulation)[:, :, None].unbind(1)
        return plane_of(self.velocity(self.norm(h) * (1 + scale) + shift))


class FlowHead(Velocity):
    """(latent, T, stage, token map) -> velocity."""

    def __init__(self, config, channels, map_channels, sides):
        cells = [side**2 for side in sides]
        super().__init__(config, channels, sum(cells), len(sides))
        self.token_map_embedding = nn.Linear(map_channels, config["hidden_size"])
        places = [place for side in sides for place in cell_places(side, sides[-1])]
        self.rotation = Rotation(places, config["hidden_size"] // config["num_attention_heads"], config["rope_theta"])
        self.bounds = [(sum(cells[:s]), sum(cells[: s + 1])) for s in range(len(sides))]

    def forward(self, x, time, stage, token_map):
        """x [B, C, h_s, h_s], time [B] (T, over all stages), stage 0 .. S-1, token_map [B, N_s, M] -> [B, C, h_s, h_s]."""
        start, end = self.bounds[stage]
        h = self.latent_embedding(rows_of(x)) + self.token_map_embedding(token_map) + self.position_embedding.weight[start:end]
        return self.run(h, self.condition(time, stage), self.rotation.rows(start, end))


class Backbone(nn.Module):
    """Under Qwen2's names."""

    def __init__(self, config):
        super().__init__()
        self.embed_tokens = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.layers = nn.ModuleList(Layer(config) for _ in range(config["num_hidden_layers"]))
        self.norm = RMSNorm(config["hidden_size"], config["rms_norm_eps"])
        nn.init.normal_(self.embed_tokens.weight, std=0.02)


class Ecar(nn.Module):
    """`config` is what config.json holds."""

    def __init__(self, config):
        super().__init__()
        own, channels = config["transformer"], config["latent"]["channels"]
        sides = [stage["side"] for stage in config["stages"]]
        self.cells, self.prefix = [side**2 for side in sides], config["max_prompt_tokens"]
        self.model = Backbone(own)
        self.position_embedding = nn.Embedding(sum(self.cells), own["hidden_size"])
        self.latent_embedding = nn.Linear(channels, own["hidden_size"], bias=False)
        self.token_map = nn.Linear(own["hidden_size"], config["token_map_channels"])
        self.flow_head = FlowHead(config["flow_head"], channels, config["token_map_channels"], sides)
        places = prefix_places(self.prefix, sides[-1]) + [place for side in sides for place in cell_places(side, sides[-1])]
        self.rotation = Rotation(places, own["hidden_size"] // own["num_attention_heads"], own["rope_theta"])
        nn.init.normal_(self.position_embedding.weight, std=0.02)

    def token_maps(self, ids, lengths, ends):
        """Token maps of stages 1 .. len(ends) + 1, in one pass.

        ids [B, P], of which the first `lengths` [B] count; ends: of each stage before the last, x_s [B, C, h_s, h_s] or
        zeros. -> [B, N_s, M] each
        """
        batch, longest = ids.shape
        cells = self.cells[: len(ends) + 1]
        parts = [self.model.embed_tokens(ids), self.position_embedding.weight[: sum(cells)].expand(batch, -1, -1)]
        contexts = [rows_of(F.interpolate(end, scale_factor=2.0, mode="nearest")) for end in ends]
        if contexts:
            first = parts[1][:, : cells[0]]
            parts[1:] = [first, parts[1][:, cells[0] :] + self.latent_embedding(torch.cat(contexts, 1))]
        x = torch.cat(parts, 1)
        level = torch.tensor([0] * longest + [s + 1 for s, count in enumerate(cells) for _ in range(count)], device=ids.device)
        exists = torch.cat([torch.arange(longest, device=ids.device) < lengths[:, None], ids.new_ones(batch, sum(cells)).bool()], 1)
        mask = ((level[:, None] >= level) & exists[:, None])[:, None]
        cos, sin = self.rotation.cos, self.rotation.sin
        keep = lambda table: torch.cat([table[:longest], table[self.prefix : self.prefix + sum(cells)]])
        for layer in self.model.layers:
            x, _ = layer(x, (keep(cos), keep(sin)), mask)
        return self.token_map(self.model.norm(x[:, longest:])).split(cells, 1)


class Dit(Velocity):
    """The baseline; `config` is what dit/config.json holds."""

    def __init__(self, config):
        own, side = config["transformer"], config["latent"]["side"]
        super().__init__(own, config["latent"]["channels"], side**2, 1)
        self.prefix_size = config["max_prompt_tokens"]
        self.embed_tokens = nn.Embedding(own["vocab_size"], own["hidden_size"])
        places = prefix_places(self.prefix_size, side) + cell_places(side, side)
        self.rotation = Rotation(places, own["hidden_size"] // own["num_attention_heads"], own["rope_theta"])
        nn.init.normal_(self.embed_tokens.weight, std=0.02)

    def prefix(self, ids, lengths):
        """ids [B, P], of which the first `lengths` [B] count -> the prefix of `forward`, run once an image."""
        exists = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        h, caches = self.embed_tokens(ids), []
        for layer in self.layers:
            h, cache = layer(h, self.rotation.rows(0, ids.shape[1]), exists[:, None, None])
            caches.append(cache)
        return exists, caches

    def forward(self, x, time, prefix):
        """x [B, C, R, R], time [B] (T = 1 - tau) -> velocity [B, C, R, R]."""
        exists, caches = prefix
        h = self.latent_embedding(rows_of(x)) + self.position_embedding.weight
        sees = torch.cat([exists, exists.new_ones(len(exists), h.shape[1])], 1)[:, None, None]
        rotation = self.rotation.rows(self.prefix_size, self.prefix_size + h.shape[1])
        return self.run(h, self.condition(time, 0), rotation, sees, caches)


NETWORKS = {"ecar": Ecar, "dit": Dit}
