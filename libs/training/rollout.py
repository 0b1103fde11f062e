"""Sample image tokens with a key-value cache, in plain PyTorch: for training and for choosing settings, not for serving."""

import torch
from transformers import DynamicCache


class Branch:
    """Rows of one text each that grow token by token."""

    def __init__(self, model, ids, images):
        """Text tokens [P, T]; each text once, then `images` rows of it."""
        self.model, self.cache = model, DynamicCache(config=model.config)
        hidden = model.model(input_ids=ids, past_key_values=self.cache, use_cache=True).last_hidden_state[:, -1]
        self.cache.batch_repeat_interleave(images)
        self.hidden = hidden.repeat_interleave(images, 0)

    def logits(self, codebook_size):
        return self.hidden @ self.model.lm_head.weight[-codebook_size:].T

    def feed(self, ids):
        self.hidden = self.model.model(input_ids=ids[:, None], past_key_values=self.cache, use_cache=True).last_hidden_state[:, -1]


def kept(logits, top_k, top_p):
    """Logits [B, V] with all but the `top_k` likeliest tokens, or those that make up `top_p`, at -infinity; 0 and 1 keep all."""
    if top_k > 0:
        logits = logits.masked_fill(logits < logits.topk(top_k).values[:, -1:], -torch.inf)
    if top_p < 1:
        ordered, order = logits.softmax(-1).sort(descending=True)
        is_tail = ordered.cumsum(-1) - ordered >= top_p
        logits = logits.masked_fill(is_tail.scatter(1, order, is_tail), -torch.inf)
    return logits


@torch.no_grad()
def sample(model, ids, images, tokens, codebook_size, unconditional=None, guidance=1.0, temperature=1.0, top_k=0, top_p=1.0):
    """`images` images of each text [P, T] -> image tokens [P * images, tokens] and their log-probabilities.

    Guidance, temperature, top-k and top-p in the order in which they are served.
    @param unconditional text tokens [U] of the other branch, for a guidance scale other than 1
    """
    branches = [Branch(model, ids, images)]
    if guidance != 1:
        branches.append(Branch(model, unconditional.expand(len(ids), -1), images))
    drawn, chances = [], []
    for _ in range(tokens):
        logits = branches[0].logits(codebook_size).log_softmax(-1)
        if guidance != 1:
            other = branches[1].logits(codebook_size).log_softmax(-1)
            logits = other + guidance * (logits - other)
        chance = kept(logits / temperature, top_k, top_p).log_softmax(-1)
        drawn.append(torch.multinomial(chance.exp(), 1).squeeze(1))
        chances.append(chance.gather(1, drawn[-1][:, None]).squeeze(1))
        if len(drawn) < tokens:
            for branch in branches:
                branch.feed(drawn[-1] + model.config.vocab_size - codebook_size)
    return torch.stack(drawn, 1), torch.stack(chances, 1)


def log_probabilities(model, ids, drawn, codebook_size):
    """Of image tokens [B, N] after text tokens [B, T], all at once. -> [B, N]"""
    sequence = torch.cat([ids, drawn + model.config.vocab_size - codebook_size], 1)[:, :-1]
    hidden = model.model(input_ids=sequence, use_cache=False).last_hidden_state[:, ids.shape[1] - 1 :]
    logits = hidden @ model.lm_head.weight[-codebook_size:].T
    return logits.float().log_softmax(-1).gather(2, drawn[..., None]).squeeze(-1)
