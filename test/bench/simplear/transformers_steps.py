"""Guided steps of Hugging Face Qwen2 at 0.5B with random weights: `python transformers_steps.py float32 JSON`; prints JSON."""

import json
import resource
import statistics
import sys
import time

import torch
from transformers import DynamicCache, Qwen2Config, Qwen2ForCausalLM

LAYERS, KEY_VALUE_HEADS, HEAD_SIZE = 24, 2, 64


def main():
    dtype, load = getattr(torch, sys.argv[1]), json.loads(sys.argv[2])
    torch.set_num_threads(load["threads"])
    started = time.perf_counter()
    config = Qwen2Config(
        vocab_size=215672, hidden_size=896, intermediate_size=4864, num_hidden_layers=LAYERS, num_attention_heads=14,
        num_key_value_heads=KEY_VALUE_HEADS, max_position_embeddings=32768, rope_theta=1e6, tie_word_embeddings=True)
    model = Qwen2ForCausalLM(config).to(dtype).eval()
    load_ms = 1000 * (time.perf_counter() - started)
    steps = []
    with torch.inference_mode():
        for past in load["pasts"]:
            cache = DynamicCache()
            for layer in range(LAYERS):
                rows = torch.randn(2, 2, KEY_VALUE_HEADS, past, HEAD_SIZE, dtype=dtype)
                cache.update(rows[0], rows[1], layer)
            taken, processor = [], []
            for step in range(load["steps"]):
                ids = torch.full((2, 1), 151672 + step)
                started, used = time.perf_counter(), time.process_time()
                model(input_ids=ids, position_ids=torch.full((2, 1), past), past_key_values=cache)
                taken.append(1000 * (time.perf_counter() - started))
                processor.append(1000 * (time.process_time() - used))
                cache.crop(past)
            steps.append({
                "past": past, "leastMs": min(taken), "medianMs": statistics.median(taken),
                "processorMs": statistics.median(processor)})
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"loadMs": load_ms, "steps": steps, "peakBytes": peak}))


if __name__ == "__main__":
    main()
