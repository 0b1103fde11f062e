import { connect } from "node:http2";
import { Duplex } from "node:stream";

type PingCallback = (error: Error | null, duration: number, payload: Buffer) => void;

/** As far as it is used here. */
interface Session {
  readonly closed: boolean;
  ping(callback: PingCallback): boolean;
}

let isInstalled = false;

/**
 * Let calls end on a connection that takes no new ones, for the whole process. Node.js sends no ping on such a connection,
 * and grpc-js, at either end, takes that for a dead peer and cuts it with all its calls: an image that outlives the age of
 * its connection, or its server's notice, by a keepalive interval would be lost. From now on the ping is sent, as HTTP/2
 * allows: a peer that lives answers, and one that has gone meanwhile is found out.
 * @see https://github.com/grpc/grpc-node/issues/3068; RFC 9113, sections 6.7 and 6.8
 */
export function letDrainingConnectionsLive(): void {
  if (isInstalled) return;
  isInstalled = true;
  const prototype = sessionPrototype();
  const ping = prototype.ping;
  prototype.ping = function (this: Session, callback) {
    return ping.call(this.closed ? Object.create(this, { closed: { value: false } }) as Session : this, callback);
  };
}

/** What all HTTP/2 sessions of Node.js inherit from; it is not exported, so one that leads nowhere gives it away. */
function sessionPrototype(): Session {
  const session = connect("http://localhost", { createConnection: () => new Duplex({ read() {}, write(_chunk, _encoding, done) { done(); } }) });
  session.on("error", () => {});
  const prototype = Object.getPrototypeOf(Object.getPrototypeOf(session)) as Session;
  session.destroy();
  return prototype;
}
