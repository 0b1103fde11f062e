import { create, fromBinary, toBinary, type DescMessage, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf";
import type { GenService, GenServiceMethods } from "@bufbuild/protobuf/codegenv2";
import { MethodOptions_IdempotencyLevel as Idempotency } from "@bufbuild/protobuf/wkt";
import type { CallerLimits } from "./caller-limits.js";
import type {
  CallContext as NiceCallContext, Client as NiceClient, ServiceImplementation as NiceImplementation,
} from "nice-grpc";

interface Codec<D extends DescMessage> {
  encode(message: MessageShape<D>): { finish(): Uint8Array };
  decode(bytes: Uint8Array): MessageShape<D>;
  fromPartial(init: MessageInitShape<D>): MessageShape<D>;
}

/** A generated service in the shape that nice-grpc takes without copying received bytes or losing method options. */
export interface Definition<M extends GenServiceMethods> {
  name: string;
  fullName: string;
  methods: { [K in keyof M]: MethodDefinition<M[K]> };
}

interface MethodDefinition<T extends GenServiceMethods[string]> {
  name: string;
  requestType: Codec<T["input"]>;
  responseType: Codec<T["output"]>;
  requestStream: T["methodKind"] extends "client_streaming" | "bidi_streaming" ? true : false;
  responseStream: T["methodKind"] extends "server_streaming" | "bidi_streaming" ? true : false;
  options: { idempotencyLevel?: "IDEMPOTENT" | "NO_SIDE_EFFECTS" };
}

/** What a handler knows of its call beside the request. */
export interface CallContext extends NiceCallContext {
  /** When the caller stops waiting, in ms as in `Date.now()`; `Infinity` for never. Pass it on with every call made. */
  readonly deadline: number;
  /** What this caller may do, for the calls that tell it. */
  readonly limits: CallerLimits;
}

/** What a caller may say about a call beside the request. */
export interface CallLimits {
  /** When to give up, in ms as in `Date.now()`; a handler passes its context's. `Infinity` is the same as none. */
  readonly deadline?: number;
  /** How long to wait at most, in ms. Without deadline and timeout the defaults of `limits.ts` hold. */
  readonly timeoutMs?: number;
}

/** `tokenizer` of `tessera.v1.TokenizerService`. */
export function shortName(typeName: string): string {
  return (typeName.split(".").at(-1) ?? typeName).replace(/Service$/, "").toLowerCase();
}

type MethodsOf<S> = S extends GenService<infer M> ? M : never;

/** The handlers of a generated service: `ServiceImplementation<typeof TokenizerService>`. */
export type ServiceImplementation<S> = NiceImplementation<Definition<MethodsOf<S>>, CallContext>;

/** The calls of a generated service: `ServiceClient<typeof TokenizerService>`. They throw `AppError` and nothing else. */
export type ServiceClient<S> = NiceClient<Definition<MethodsOf<S>>, CallLimits>;

function codec<D extends DescMessage>(message: D, onBytes: (count: number) => void): Codec<D> {
  return {
    encode: (value) => ({
      finish: () => {
        const bytes = toBinary(message, value);
        onBytes(bytes.length);
        return bytes;
      },
    }),
    decode: (bytes) => {
      onBytes(bytes.length);
      return fromBinary(message, bytes);
    },
    fromPartial: (init) => create(message, init),
  };
}

/** What a request becomes whose bytes are no valid message; left to itself grpc-js would call that our own error. */
export class MalformedRequest {
  readonly typeName: string;

  /** @param typeName full name of the message that was expected. */
  constructor(typeName: string) {
    this.typeName = typeName;
  }
}

function requestCodec<D extends DescMessage>(message: D, onBytes: (count: number) => void): Codec<D> {
  const { decode, ...rest } = codec(message, onBytes);
  return {
    ...rest,
    decode(bytes) {
      try {
        return decode(bytes);
      } catch {
        return new MalformedRequest(message.typeName) as unknown as MessageShape<D>;
      }
    },
  };
}

function idempotencyOptions(level: Idempotency): { idempotencyLevel?: "IDEMPOTENT" | "NO_SIDE_EFFECTS" } {
  if (level === Idempotency.NO_SIDE_EFFECTS) return { idempotencyLevel: "NO_SIDE_EFFECTS" };
  if (level === Idempotency.IDEMPOTENT) return { idempotencyLevel: "IDEMPOTENT" };
  return {};
}

/** Hears of the size of every message of a service, in bytes. */
export interface ByteMeter {
  requested(count: number): void;
  responded(count: number): void;
}

const UNMETERED: ByteMeter = { requested() {}, responded() {} };

/**
 * The nice-grpc definition of a generated service. It takes the ts-proto shape on purpose: nice-grpc would treat its
 * own plain definition as one of grpc-js, drop the method options and copy every received message.
 */
export function niceDefinition<M extends GenServiceMethods>(service: GenService<M>, meter: ByteMeter = UNMETERED): Definition<M> {
  const methods = service.methods.map((method) => [method.localName, {
    name: method.name,
    requestType: requestCodec(method.input, meter.requested),
    responseType: codec(method.output, meter.responded),
    requestStream: method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming",
    responseStream: method.methodKind === "server_streaming" || method.methodKind === "bidi_streaming",
    options: idempotencyOptions(method.idempotency),
  }]);
  return {
    name: service.name,
    fullName: service.typeName,
    methods: Object.fromEntries(methods) as Definition<M>["methods"],
  };
}
