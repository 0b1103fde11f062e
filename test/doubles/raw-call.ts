import { once } from "node:events";
import { connect as connectSocket, type Socket } from "node:net";
import { connect, constants, type ClientHttp2Session, type ClientHttp2Stream, type OutgoingHttpHeaders } from "node:http2";

/** What a call made byte by byte ended with. */
export type RawOutcome =
  | { readonly type: "status"; readonly code: number; readonly message: string }
  /** An answer that is not gRPC: the request was not either. */
  | { readonly type: "http"; readonly status: number }
  /** The stream was reset by the server, or by us. */
  | { readonly type: "reset"; readonly code: number }
  | { readonly type: "hang" };

/** How the client's half of a call ends: properly, by a reset, or by losing the connection. */
export type RawEnding = "end" | "reset" | "cut";

/** One call, byte by byte. */
export interface RawCall {
  /** e.g. `/tessera.v1.TokenizerService/Encode`. */
  readonly path: string;
  readonly body: Buffer;
  readonly ending: RawEnding;
  /** Replace the headers of a proper call. */
  readonly headers?: OutgoingHttpHeaders;
}

/** Above what the largest call has in flight; by default our own side would give up before the server does. */
const MAX_SESSION_MIB = 1000;

/** One message as gRPC frames it: a flag, the length, the bytes. */
export function frame(message: Uint8Array, options: { readonly flag?: number; readonly length?: number } = {}): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt8(options.flag ?? 0, 0);
  head.writeUInt32BE(options.length ?? message.length, 1);
  return Buffer.concat([head, message]);
}

/** A client that sends what no gRPC library would. Close it after use. */
export class RawClient {
  readonly #address: string;
  #session: ClientHttp2Session | undefined;
  #socket: Socket | undefined;

  /** @param address `host:port`. */
  constructor(address: string) {
    this.#address = address;
  }

  /** Make one call and see what becomes of it. @param limitMs a call that is not over by then has hung. */
  async call({ path, body, ending, headers = {} }: RawCall, limitMs: number): Promise<RawOutcome> {
    const stream = (await this.#open()).request({
      ":method": "POST", ":path": path, "content-type": "application/grpc", "te": "trailers", ...headers,
    });
    const outcome = outcomeOf(stream);
    if (ending === "end") stream.end(body);
    else stream.write(body, () => (ending === "cut" ? this.#cut() : stream.close(constants.NGHTTP2_CANCEL)));
    const timeout = new AbortController();
    const hang = once(AbortSignal.any([AbortSignal.timeout(limitMs), timeout.signal]), "abort").then(() => ({ type: "hang" }) as const);
    try {
      return await Promise.race([outcome, hang]);
    } finally {
      timeout.abort();
      stream.destroy();
    }
  }

  close(): void {
    this.#cut();
  }

  async #open(): Promise<ClientHttp2Session> {
    if (this.#session !== undefined && !this.#session.closed && !this.#session.destroyed) return this.#session;
    const [host, port] = this.#address.split(":");
    const socket = connectSocket(Number(port), host);
    this.#socket = socket;
    this.#session = connect(`http://${this.#address}`, { createConnection: () => socket, maxSessionMemory: MAX_SESSION_MIB });
    this.#session.on("error", () => {});
    if (socket.connecting) await once(socket, "connect");
    return this.#session;
  }

  #cut(): void {
    this.#socket?.destroy();
    this.#session?.destroy();
    this.#session = undefined;
  }
}

function outcomeOf(stream: ClientHttp2Stream): Promise<RawOutcome> {
  return new Promise((resolve) => {
    let httpStatus = 0;
    const see = (headers: Readonly<Record<string, unknown>>) => {
      httpStatus = Number(headers[":status"] ?? httpStatus);
      const code = headers["grpc-status"];
      if (code !== undefined) resolve({ type: "status", code: Number(code), message: decodeURIComponent(String(headers["grpc-message"] ?? "")) });
    };
    stream.on("response", see);
    stream.on("trailers", see);
    stream.on("error", () => {});
    stream.on("close", () => resolve(httpStatus >= 300 ? { type: "http", status: httpStatus } : { type: "reset", code: stream.rstCode }));
    stream.resume();
  });
}
