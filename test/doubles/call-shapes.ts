import type { CallContext, CallLimits } from "#libs/rpc/definition.js";
import { connect } from "#libs/rpc/client.js";
import { GeneratorService } from "#libs/rpc/gen/tessera/v1/generator_pb.js";
import { TokenizerService } from "#libs/rpc/gen/tessera/v1/tokenizer_pb.js";
import type { Security } from "#libs/rpc/security.js";
import { implement, startServer, type RunningServer, type ServiceEntry } from "#libs/rpc/server.js";

/** What the handler under test does before it answers. */
export type Behaviour = (context: CallContext) => Promise<void>;

/** What a test may say about its call. */
export type CallOptions = CallLimits & { readonly security?: Security; readonly signal?: AbortSignal };

/** One way in which a call can look on the wire, on one of our own methods. */
export interface CallShape {
  readonly name: string;
  /** A service with one method of this shape that behaves as told. */
  entry(behave: Behaviour): ServiceEntry;
  /** Call it over a connection of its own. @returns how many messages came back. */
  call(address: string, options?: CallOptions): Promise<number>;
}

const queued = { event: { case: "queued", value: { position: 0 } } } as const;
const started = { event: { case: "started", value: {} } } as const;

/** A method that no test calls. */
const unused = () => {
  throw new Error("not under test");
};

const unary: CallShape = {
  name: "unary",
  entry: (behave) => implement(TokenizerService, {
    async encode(_request, context) {
      await behave(context);
      return { promptTokens: [1, 2, 3] };
    },
    decodeText: unused,
    getTokenizerInfo: unused,
  }),
  async call(address, { security, ...options } = {}) {
    const { client, close } = connect(TokenizerService, address, { security });
    try {
      await client.encode({ prompt: "a red apple" }, options);
      return 1;
    } finally {
      close();
    }
  },
};

const serverStream: CallShape = {
  name: "server stream",
  entry: (behave) => implement(GeneratorService, {
    async *generate(_request, context) {
      yield queued;
      await behave(context);
      yield started;
    },
    generateStages: unused,
    getGeneratorInfo: unused,
  }),
  async call(address, { security, ...options } = {}) {
    const { client, close } = connect(GeneratorService, address, { security });
    try {
      return await messages(client.generate({}, options));
    } finally {
      close();
    }
  },
};

const bidirectional: CallShape = {
  name: "bidirectional stream",
  entry: (behave) => implement(GeneratorService, {
    async *generateStages(requests, context) {
      for await (const _request of requests) yield queued;
      await behave(context);
      yield started;
    },
    generate: unused,
    getGeneratorInfo: unused,
  }),
  async call(address, { security, ...options } = {}) {
    const { client, close } = connect(GeneratorService, address, { security });
    const requests = async function* () {
      yield { message: { case: "generation", value: {} } } as const;
    };
    try {
      return await messages(client.generateStages(requests(), options));
    } finally {
      close();
    }
  },
};

/** Every shape that the project's services have. */
export const CALL_SHAPES: readonly CallShape[] = [unary, serverStream, bidirectional];

/** A serving server on a free port whose one method behaves as told. */
export async function startShape(shape: CallShape, behave: Behaviour, security: Security = {}): Promise<RunningServer> {
  const server = await startServer({ address: "127.0.0.1:0", services: [shape.entry(behave)], security });
  server.setServing(true);
  return server;
}

/** A behaviour that passes every call on to another server, limits included. */
export function forwardTo(shape: CallShape, address: string): Behaviour {
  return async ({ signal, deadline }) => {
    await shape.call(address, { signal, deadline });
  };
}

async function messages(stream: AsyncIterable<unknown>): Promise<number> {
  let count = 0;
  for await (const _message of stream) count++;
  return count;
}
