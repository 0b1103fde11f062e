import { serve } from "#libs/rpc/serve.js";
import { readGeneratorConfig } from "./config.js";
import { startGenerator } from "./start.js";

await serve("generator", async (options) => startGenerator(readGeneratorConfig(process.env), options));
