"""Streams image tokens from a Tessera generator, one JSON object a line: {"image", "offset", "tokens"}.

    python libs/clients/token_consumer.py HOST:PORT PROMPT [SEED]

Needs grpcio, and the modules that protoc makes of proto/ in the path (README.md beside this file tells how).
TESSERA_API_KEY is shown if set, and TESSERA_TLS_CA names the authority to trust (a file); without it the call goes in
clear text.
"""

import json
import os
import sys
import time
from pathlib import Path

import grpc
from tessera.v1 import generator_pb2, generator_pb2_grpc, types_pb2

TRY_AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.ABORTED)
MAX_RETRIES = 5
TIMEOUT_SECONDS = 900


def open_channel(address):
    """A channel that spreads its calls over all addresses of a name."""
    options = [("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]}))]
    ca_file = os.environ.get("TESSERA_TLS_CA")
    if ca_file is None:
        return grpc.insecure_channel(address, options)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(Path(ca_file).read_bytes()), options)


def token_stream(stub, prompt, seed=None):
    """Yield (image, offset, tokens) of one image, without gaps and never twice.

    A call that was refused or lost is made again from the tokens that have arrived: with the same seed they are all of
    its state, so the image ends as it would have.
    """
    key = os.environ.get("TESSERA_API_KEY")
    metadata = [("authorization", f"Bearer {key}")] if key else []
    tokens, total, retries = [], None, 0
    while True:
        generation = types_pb2.Generation(prompt=prompt, image_count=1)
        if seed is not None:
            generation.seed = seed
        if tokens:
            generation.prefixes.add(image_index=0, tokens=tokens)
        try:
            request = generator_pb2.GenerateRequest(generation=generation)
            for response in stub.Generate(request, timeout=TIMEOUT_SECONDS, metadata=metadata):
                event = response.WhichOneof("event")
                if event == "started":
                    seed, total = response.started.settings.seed, response.started.image_token_count
                elif event == "token_chunk":
                    fresh = list(response.token_chunk.tokens)
                    yield response.token_chunk.image_index, len(tokens), fresh
                    tokens += fresh
                    retries = 0
            return
        except grpc.RpcError as error:
            if len(tokens) == total:
                return
            if error.code() not in TRY_AGAIN or retries == MAX_RETRIES:
                raise
            time.sleep(0.2 * 2**retries)
            retries += 1


def main(address, prompt, seed=None):
    with open_channel(address) as channel:
        stub = generator_pb2_grpc.GeneratorServiceStub(channel)
        for image, offset, tokens in token_stream(stub, prompt, None if seed is None else int(seed)):
            print(json.dumps({"image": image, "offset": offset, "tokens": tokens}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
