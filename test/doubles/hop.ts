/**
 * A service process for tests of what all services share. Arguments: name, mode, address of the next hop, own address.
 * A hop with a next one passes each call on; the last one, a tokenizer, answers. Modes: `answer` at once; `wait` until
 * aborted; `drain` to answer only once a stop was asked for; `fail` to start.
 */
import { once } from "node:events";
import { mismatch } from "#libs/errors/errors.js";
import { connect } from "#libs/rpc/client.js";
import type { CallContext } from "#libs/rpc/definition.js";
import { GeneratorService } from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import { TokenizerService } from "#libs/rpc/gen/tessera/v1/tokenizer_pb.js";
import { serve } from "#libs/rpc/serve.js";
import { startService, type RunningService } from "#libs/rpc/service.js";
import { SPANS } from "#libs/telemetry/names.js";
import { inContext, inSpan, openSpan } from "#libs/telemetry/spans.js";

const [name, mode, next, address = "127.0.0.1:0"] = process.argv.slice(2);

const unused = () => {
  throw new Error("not under test");
};

async function behave({ signal }: CallContext): Promise<void> {
  if (mode === "drain") await once(process, "SIGTERM");
  if (mode === "wait") await once(signal, "abort").then(() => signal.throwIfAborted());
}

/** The last hop: one unary method with one span inside. */
function startTokenizer(): Promise<RunningService> {
  return startService({
    address,
    service: TokenizerService,
    load: async () => ({
      implementation: {
        encode: (_request, context) => inSpan(SPANS.tokenize, {}, async () => {
          await behave(context);
          return { promptTokens: [1, 2, 3] };
        }),
        decodeText: unused,
        getTokenizerInfo: unused,
      },
      close: async () => {},
    }),
  });
}

/** A hop that asks the tokenizer, then streams. */
function startGenerator(): Promise<RunningService> {
  const { client, close } = connect(TokenizerService, next);
  return startService({
    address,
    service: GeneratorService,
    load: async () => ({
      implementation: {
        async *generate({ generation }, context) {
          const { signal, deadline } = context;
          await client.encode({ prompt: generation?.prompt ?? "" }, { signal, deadline });
          yield { event: { case: "queued", value: {} } };
          const span = openSpan(SPANS.decode);
          try {
            await behave(context);
            yield { event: { case: "started", value: {} } };
          } catch (error) {
            span.fail(error);
            throw error;
          } finally {
            span.end();
          }
        },
        generateStages: unused,
        getGeneratorInfo: unused,
      },
      close: async () => close(),
    }),
  });
}

/** A hop that passes a stream on. */
function startDecoder(): Promise<RunningService> {
  const { client, close } = connect(GeneratorService, next);
  return startService({
    address,
    service: GeneratorService,
    load: async () => ({
      implementation: {
        async *generate(request, { signal, deadline }) {
          const span = openSpan(SPANS.transfer);
          try {
            yield* inContext(span.context, () => client.generate(request, { signal, deadline }));
          } finally {
            span.end();
          }
        },
        generateStages: unused,
        getGeneratorInfo: unused,
      },
      close: async () => close(),
    }),
  });
}

await serve(name, async () => {
  if (mode === "fail") throw mismatch("`file` must be the tokenizer's own\nsecond line");
  if (name === "tokenizer") return startTokenizer();
  return name === "generator" ? startGenerator() : startDecoder();
});
