import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

interface LockedPackage {
  readonly license?: string;
  readonly integrity?: string;
  readonly resolved?: string;
  readonly dev?: boolean;
  readonly optional?: boolean;
}

const lock = JSON.parse(readFileSync(new URL("../../package-lock.json", import.meta.url), "utf8")) as {
  readonly packages: Readonly<Record<string, LockedPackage>>;
};
const packages = Object.entries(lock.packages).filter(([path]) => path !== "").map(([path, entry]) => ({ name: path.split("node_modules/").at(-1)!, ...entry }));
const shipped = packages.filter(({ dev = false }) => !dev);

/** Licences that ask for no more than a notice. */
const PERMISSIVE = ["MIT", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "0BSD", "CC0-1.0", "BlueOak-1.0.0"];

/** libvips is loaded as a library of its own, which may be replaced: what its licence asks for. */
const DYNAMICALLY_LINKED = /^@img\/sharp-/;

/** Whether one of the ways in which a package is offered asks for nothing but what is allowed. */
function isAllowed(licence: string, allowed: readonly string[]): boolean {
  return licence.replace(/^\(|\)$/g, "").split(" OR ").some((offer) => offer.split(" AND ").every((part) => allowed.includes(part)));
}

test("all that is shipped may be shipped", () => {
  assert.ok(shipped.length > 50);
  const wrong = shipped.filter(({ name, license = "none" }) =>
    !isAllowed(license, DYNAMICALLY_LINKED.test(name) ? [...PERMISSIVE, "LGPL-3.0-or-later"] : PERMISSIVE));
  assert.deepEqual(wrong.map(({ name, license }) => `${name}: ${license}`), []);
});

test("every package is fixed by its hash, and comes from no named host", () => {
  for (const { name, integrity, resolved, optional = false } of packages) {
    // Packages of other platforms may stand in the file without having been seen.
    assert.ok(integrity !== undefined || optional, name);
    assert.ok(resolved === undefined, name);
  }
});

test("licences are read as they are meant", () => {
  assert.ok(isAllowed("(MIT OR GPL-3.0)", PERMISSIVE) && isAllowed("(Apache-2.0 AND BSD-3-Clause)", PERMISSIVE));
  assert.ok(!isAllowed("GPL-3.0", PERMISSIVE) && !isAllowed("MIT AND GPL-3.0", PERMISSIVE) && !isAllowed("none", PERMISSIVE));
});
