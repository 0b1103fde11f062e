import { serve } from "#libs/rpc/serve.js";
import { readTokenizerConfig } from "./config.js";
import { startTokenizer } from "./start.js";

await serve("tokenizer", async (options) => startTokenizer(readTokenizerConfig(process.env), options));
