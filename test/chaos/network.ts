import { execFileSync } from "node:child_process";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";

/** A machine of its own as far as the network goes. */
export interface Host {
  readonly address: string;
  /** Runs the command that follows it on this host. */
  readonly launcher: readonly string[];
  /** Cut the cable, or mend it. */
  cut(): void;
  heal(): void;
  /** Let through so many kilobits a second. @returns false where the kernel cannot do it. */
  slowDown(kilobits: number): boolean;
  speedUp(): void;
}

/** Hosts on one switch, each in a network namespace, and this process's own place beside them. Close it: it outlives the process. */
export interface Network {
  /** Where this process is reached, and where hosts look for names. */
  readonly gateway: string;
  readonly hosts: readonly Host[];
  close(): void;
}

const PREFIX = "10.77.31";
const BRIDGE = "tessera0";

const ip = (...args: readonly string[]) => void execFileSync("ip", args, { stdio: "pipe" });

/** @throws Error with the tool's own words where namespaces cannot be made; nothing is left behind then. */
export function openNetwork(hostCount: number): Network {
  const names = Array.from({ length: hostCount }, (_, index) => `tessera${index + 1}`);
  const gateway = `${PREFIX}.1`;
  const close = () => {
    for (const name of names) {
      quietly("netns", "del", name);
      rmSync(`/etc/netns/${name}`, { recursive: true, force: true });
    }
    quietly("link", "del", BRIDGE);
  };
  close();
  try {
    ip("link", "add", BRIDGE, "type", "bridge");
    ip("addr", "add", `${gateway}/24`, "dev", BRIDGE);
    ip("link", "set", BRIDGE, "up");
    return { gateway, hosts: names.map((name, index) => addHost(name, `${PREFIX}.${11 + index}`, gateway)), close };
  } catch (error) {
    close();
    throw error;
  }
}

function addHost(name: string, address: string, gateway: string): Host {
  const cable = `${name}v`;
  ip("netns", "add", name);
  ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", name);
  ip("link", "set", cable, "master", BRIDGE, "up");
  ip("-n", name, "addr", "add", `${address}/24`, "dev", "eth0");
  ip("-n", name, "link", "set", "eth0", "up");
  ip("-n", name, "link", "set", "lo", "up");
  // `ip netns exec` puts what lies here in the place of /etc.
  mkdirSync(`/etc/netns/${name}`, { recursive: true });
  writeFileSync(`/etc/netns/${name}/resolv.conf`, `nameserver ${gateway}\n`);
  const limit = (...args: readonly string[]) => execFileSync("tc", ["-n", name, "qdisc", ...args], { stdio: "pipe" });
  return {
    address,
    launcher: ["ip", "netns", "exec", name],
    cut: () => ip("link", "set", cable, "down"),
    heal: () => ip("link", "set", cable, "up"),
    slowDown(kilobits) {
      try {
        limit("add", "dev", "eth0", "root", "tbf", "rate", `${kilobits}kbit`, "burst", "4kb", "latency", "500ms");
        return true;
      } catch {
        return false;
      }
    },
    speedUp: () => void limit("del", "dev", "eth0", "root"),
  };
}

function quietly(...args: readonly string[]): void {
  try {
    ip(...args);
  } catch {
    // It was not there.
  }
}
