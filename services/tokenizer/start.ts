import { readFile } from "node:fs/promises";
import { openBundle } from "#libs/bundle/bundle.js";
import { TokenizerService } from "#libs/rpc/gen/tessera/v1/tokenizer_pb.js";
import { startService, type RunningService } from "#libs/rpc/service.js";
import type { TokenizerConfig } from "./config.js";
import { tokenizerService } from "./service.js";
import { TextTokenizer, type TokenizerFile } from "./text-tokenizer.js";

const TOKENIZER_FILE = "tokenizer.json";

/** Listen, read the bundle's vocabulary, encode once to warm up, then serve. */
export function startTokenizer(
  config: TokenizerConfig, { signal }: { readonly signal?: AbortSignal } = {},
): Promise<RunningService> {
  return startService({
    address: config.address,
    healthAddress: config.healthAddress,
    security: config.security,
    service: TokenizerService,
    ...(signal && { signal }),
    async load({ signal: giveUp }) {
      const bundle = await openBundle(config.bundleFolder, { signal: giveUp });
      const file = JSON.parse(await readFile(bundle.path(TOKENIZER_FILE), "utf8")) as TokenizerFile;
      const tokenizer = new TextTokenizer(file, bundle.manifest.text);
      tokenizer.encodePrompt("warm");
      return { implementation: tokenizerService({ bundle, tokenizer }), async close() {} };
    },
  });
}
