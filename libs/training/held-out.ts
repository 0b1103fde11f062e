import { createHash } from "node:crypto";
import type { Scene } from "./scene.js";

/**
 * The combinations no training scene may hold, each decided by a hash of its own name, so that the split was fixed
 * before any training and needs no list. Shares: (object, colour) 12 %, (object, count) 15 %, unordered object pair
 * 10 %, (ordered pair, relation) a further 10 %.
 */
const SHARES = { colour: 0.12, count: 0.15, pair: 0.1, relation: 0.1 } as const;
const SALT = "tessera-held-out-v1";

/** A combination's kind and name, as `kind:part:part`. */
export type CombinationKey = `${keyof typeof SHARES}:${string}`;

/** True when the combination belongs to the held-out side of the split. */
export function isHeldOut(key: CombinationKey): boolean {
  const kind = key.slice(0, key.indexOf(":")) as keyof typeof SHARES;
  const word = createHash("sha256").update(`${SALT}:${key}`).digest().readUInt32BE(0);
  return word / 0x1_0000_0000 < SHARES[kind];
}

/** Every combination that a scene shows. */
export function combinationKeys(scene: Scene): CombinationKey[] {
  const keys: CombinationKey[] = [];
  for (const item of scene.items) {
    if (item.colour !== undefined) keys.push(`colour:${item.object}:${item.colour}`);
  }
  const [first, second] = scene.items;
  if (scene.count > 1) keys.push(`count:${first!.object}:${scene.count}`);
  if (second !== undefined) {
    keys.push(`pair:${[first!.object, second.object].sort().join(":")}`);
    if (scene.relation !== undefined) keys.push(`relation:${first!.object}:${second.object}:${scene.relation}`);
  }
  return keys;
}
