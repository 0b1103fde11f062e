import { once } from "node:events";
import { connect as connectSocket, createServer, type AddressInfo, type Socket } from "node:net";

/** A way to a service on which connections can be cut as a broken network cuts them: without a word to either end. */
export class CuttingProxy {
  /** `host:port` to connect to in place of the service's. */
  readonly address: string;
  readonly #sockets = new Set<Socket>();
  readonly #close: () => void;

  /** @param target `host:port` of the service, which need not be up. */
  static async open(target: string): Promise<CuttingProxy> {
    const [host, port] = target.split(":");
    const sockets = new Set<Socket>();
    const server = createServer((near) => {
      const far = connectSocket({ host, port: Number(port) });
      for (const [socket, other] of [[near, far], [far, near]] as const) {
        sockets.add(socket);
        socket.once("close", () => {
          sockets.delete(socket);
          other.destroy();
        });
        // Its close tells all there is to know.
        socket.on("error", () => {});
        socket.pipe(other);
      }
    });
    await once(server.listen(0, "127.0.0.1"), "listening");
    return new CuttingProxy((server.address() as AddressInfo).port, sockets, () => void server.close());
  }

  private constructor(port: number, sockets: Set<Socket>, close: () => void) {
    this.address = `127.0.0.1:${port}`;
    this.#sockets = sockets;
    this.#close = close;
  }

  /** Cut every connection; new ones may be made. */
  cut(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  /** Cut everything and take no more. */
  close(): void {
    this.#close();
    this.cut();
  }
}
