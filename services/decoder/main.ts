import { serve } from "#libs/rpc/serve.js";
import { readDecoderConfig } from "./config.js";
import { startDecoder } from "./start.js";

await serve("decoder", async (options) => startDecoder(readDecoderConfig(process.env), options));
