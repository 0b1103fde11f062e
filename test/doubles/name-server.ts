import { createSocket } from "node:dgram";
import { once } from "node:events";

/** A DNS server that knows a few names and answers all else with nothing. */
export interface NameServer {
  /** Let a name stand for these IPv4 addresses from now on. */
  set(name: string, addresses: readonly string[]): void;
  close(): void;
}

const TYPE_A = 1;
const HEADER_BYTES = 12;
const TTL_SECONDS = 1;

/** @param host IPv4 address of this machine; port 53, which needs root. @see RFC 1035 section 4 */
export async function startNameServer(host: string): Promise<NameServer> {
  const names = new Map<string, readonly string[]>();
  const socket = createSocket("udp4");
  socket.on("message", (query, { address, port }) => socket.send(answerTo(query, names), port, address));
  socket.bind(53, host);
  await once(socket, "listening");
  return { set: (name, addresses) => void names.set(name, addresses), close: () => socket.close() };
}

function answerTo(query: Buffer, names: ReadonlyMap<string, readonly string[]>): Buffer {
  const labels: string[] = [];
  let end = HEADER_BYTES;
  for (; query[end] !== 0; end += query[end] + 1) labels.push(query.toString("latin1", end + 1, end + 1 + query[end]));
  const question = query.subarray(HEADER_BYTES, end + 5);
  const asksForA = query.readUInt16BE(end + 1) === TYPE_A;
  const addresses = asksForA ? names.get(labels.join(".").toLowerCase()) ?? [] : [];
  const header = Buffer.alloc(HEADER_BYTES);
  query.copy(header, 0, 0, 2);
  // A response of the authority for the name; recursion is neither offered nor needed.
  header.writeUInt16BE(0x8400, 2);
  header.writeUInt16BE(1, 4);
  header.writeUInt16BE(addresses.length, 6);
  return Buffer.concat([header, question, ...addresses.map(record)]);
}

/** An address record whose name is that of the question. */
function record(address: string): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.writeUInt16BE(0xc000 | HEADER_BYTES, 0);
  bytes.writeUInt16BE(TYPE_A, 2);
  bytes.writeUInt16BE(1, 4);
  bytes.writeUInt32BE(TTL_SECONDS, 6);
  bytes.writeUInt16BE(4, 10);
  bytes.set(address.split(".").map(Number), 12);
  return bytes;
}
