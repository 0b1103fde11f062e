import type { Context } from "@opentelemetry/api";
import type { Bundle } from "#libs/bundle/bundle.js";
import type { ServiceClient } from "#libs/rpc/definition.js";
import type { EncodeResponse, TokenizerService } from "#libs/rpc/gen/tessera/v1/tokenizer_pb.js";
import { anotherBundle } from "#libs/rpc/model-info.js";
import { inContext } from "#libs/telemetry/spans.js";

/** Whom to ask, and for which bundle. */
export interface EncodeParts {
  readonly bundle: Bundle;
  readonly tokenizer: Pick<ServiceClient<typeof TokenizerService>, "encode">;
}

/** The prompts of a request. */
export interface Prompts {
  readonly prompt: string;
  /** Undefined: the bundle's unconditional prompt. */
  readonly negativePrompt: string | undefined;
}

/** The text tokens of both branches. @throws the tokenizer's errors as they are; mismatch if it has loaded another bundle. */
export async function encodePrompts(
  { bundle, tokenizer }: EncodeParts, { prompt, negativePrompt }: Prompts,
  { signal, parent, deadline }: { readonly signal: AbortSignal; readonly parent: Context; readonly deadline: number },
): Promise<EncodeResponse> {
  const text = negativePrompt === undefined ? { prompt } : { prompt, negativePrompt };
  const encoded = await inContext(parent, () => tokenizer.encode(text, { signal, deadline }));
  if (encoded.modelDigest !== bundle.digest) throw anotherBundle("tokenizer", encoded.modelDigest, bundle);
  return encoded;
}
