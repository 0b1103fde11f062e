import { connect } from "node:http2";
import { Duplex } from "node:stream";

type PingCallback = (error: Error | null, duration: number, payload: Buffer) => void;

/** As far as it is used here. */
interface Session {
  readonly closed: boolean;
  readonly destroyed: boolean;
  readonly connecting: boolean;
  ping(callback: PingCallback): boolean;
}

let isInstalled = false;

/**
 * Let calls end on a connection that takes no new ones, for the whole process. Node.js sends no ping on such a connection,
 * and grpc-js, at either end, takes that for a dead peer and cuts it with all its calls: an image that outlives the age of
 * its connection, or its server's notice, by a keepalive interval would be lost. From now on such a ping counts as
 * answered; who watches over these calls then are their deadlines.
 * @see https://github.com/grpc/grpc-node/issues/3068
 */
export function letDrainingConnectionsLive(): void {
  if (isInstalled) return;
  isInstalled = true;
  const prototype = sessionPrototype();
  const ping = prototype.ping;
  prototype.ping = function (this: Session, callback) {
    if (!this.closed || this.destroyed || this.connecting) return ping.call(this, callback);
    setImmediate(callback, null, 0, Buffer.alloc(8));
    return true;
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
