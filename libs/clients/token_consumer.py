"""Streams image tokens from a Tessera generator, one JSON object a line: {"image", "offset", "tokens"}.

    python libs/clients/token_consumer.py HOST:PORT PROMPT [SEED]

Needs grpcio and googleapis-common-protos, and the modules that protoc makes of proto/ in the path (README.md beside this file tells how).
TESSERA_API_KEY is shown if set, and TESSERA_TLS_CA names the authority to trust (a file); without it the call goes in
clear text.
"""

import json
import os
import sys
import time
from pathlib import Path

import grpc
from google.rpc import error_details_pb2, status_pb2
from tessera.v1 import generator_pb2, generator_pb2_grpc, types_pb2

TRY_AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.ABORTED)
MAX_RETRIES = 5
RETRY_SECONDS = 0.2
TIMEOUT_SECONDS = 900


def open_channel(address):
    """A channel that spreads its calls over all addresses of a name."""
    options = [("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]}))]
    ca_file = os.environ.get("TESSERA_TLS_CA")
    if ca_file is None:
        return grpc.insecure_channel(address, options)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(Path(ca_file).read_bytes()), options)


def told_delay(error):
    """Seconds that the service asks its caller to wait; None if it asks for nothing."""
    for key, value in error.trailing_metadata() or ():
        if key != "grpc-status-details-bin":
            continue
        for detail in status_pb2.Status.FromString(value).details:
            info = error_details_pb2.RetryInfo()
            if detail.Unpack(info):
                return info.retry_delay.ToTimedelta().total_seconds()
    return None


def token_stream(stub, prompt, seed=None):
    """Yield (image, offset, tokens) of one image, without gaps and never twice.

    A call that was refused or lost is made again from the tokens that have arrived: with the same seed they are all of
    its state, so the image ends as it would have. An image that has begun waits for a place, when told how long, as long
    as its time goes; all tries share it.
    """
    deadline = time.monotonic() + TIMEOUT_SECONDS
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
            for response in stub.Generate(request, timeout=deadline - time.monotonic(), metadata=metadata):
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
            delay = told_delay(error)
            if total is None or delay is None:
                retries += 1
            if error.code() not in TRY_AGAIN or retries > MAX_RETRIES:
                raise
            delay = RETRY_SECONDS * 2**retries if delay is None else delay
            time.sleep(max(0, min(delay, deadline - time.monotonic())))


def main(address, prompt, seed=None):
    with open_channel(address) as channel:
        stub = generator_pb2_grpc.GeneratorServiceStub(channel)
        for image, offset, tokens in token_stream(stub, prompt, None if seed is None else int(seed)):
            print(json.dumps({"image": image, "offset": offset, "tokens": tokens}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
