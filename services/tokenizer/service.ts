import type { Bundle } from "#libs/bundle/bundle.js";
import type { CallContext, ServiceImplementation } from "#libs/rpc/definition.js";
import type { TokenizerService } from "#libs/rpc/gen/tessera/v1/tokenizer_pb.js";
import { MAX_PROMPT_BYTES } from "#libs/rpc/limits.js";
import { modelInfoOf } from "#libs/rpc/model-info.js";
import { ATTRIBUTES, SPANS } from "#libs/telemetry/names.js";
import { inSpan } from "#libs/telemetry/spans.js";
import type { TextTokenizer } from "./text-tokenizer.js";
import { checkTokenCount, validEncodeRequest, validTextTokens } from "./validate.js";

/** The calls of TokenizerService over one bundle's tokenizer. */
export function tokenizerService(
  { bundle, tokenizer }: { readonly bundle: Bundle; readonly tokenizer: TextTokenizer },
): ServiceImplementation<typeof TokenizerService> {
  const { vocabularySize, maxPromptTokens } = bundle.manifest.text;
  return {
    encode: (request) => inSpan(SPANS.tokenize, {}, async (span) => {
      const { prompt, negativePrompt } = validEncodeRequest(request);
      const promptTokens = tokenizer.encodePrompt(prompt);
      checkTokenCount("prompt", promptTokens, maxPromptTokens);
      const negativePromptTokens = tokenizer.encodeNegativePrompt(negativePrompt);
      checkTokenCount("negative_prompt", negativePromptTokens, maxPromptTokens);
      span.set({ [ATTRIBUTES.promptTokens]: promptTokens.length });
      return { promptTokens, negativePromptTokens, modelDigest: bundle.digest };
    }),
    async decodeText(request) {
      return { text: tokenizer.decode(validTextTokens(request, vocabularySize, (token) => tokenizer.has(token))) };
    },
    async getTokenizerInfo(_request, { limits }: CallContext) {
      return { model: modelInfoOf(bundle), vocabularySize, maxPromptTokens, maxPromptBytes: MAX_PROMPT_BYTES, limits };
    },
  };
}
