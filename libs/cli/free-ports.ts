import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";

/**
 * Different loopback ports that are free now. Nothing holds them: whoever listens on one must be ready to find it taken.
 * @param count how many.
 */
export async function freePorts(count: number): Promise<readonly number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  try {
    // All are held at once, so that no port is given twice.
    for (const server of servers) await once(server.listen(0, "127.0.0.1"), "listening");
    return servers.map((server) => (server.address() as AddressInfo).port);
  } finally {
    for (const server of servers) server.close();
  }
}
