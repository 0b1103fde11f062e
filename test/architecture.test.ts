import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const MAX_LINES = 300;

interface Source {
  /** Path from the root, e.g. `libs/rpc/server.ts`. */
  readonly path: string;
  readonly text: string;
  /** What it imports: our own files as paths from the root with `.js`, others by their name. */
  readonly imports: readonly string[];
}

function importsOf(path: string, text: string): string[] {
  const specifiers = text.matchAll(/(?:\bfrom|^import|\bimport\()\s*"([^"]+)"/gm);
  return Array.from(specifiers, ([, specifier]) => {
    if (specifier.startsWith("#")) return specifier.slice(1);
    if (specifier.startsWith(".")) return new URL(specifier, `file:///${path}`).pathname.slice(1);
    return specifier;
  });
}

const sources: readonly Source[] = ["libs", "services", "test"].flatMap((folder) =>
  readdirSync(ROOT + folder, { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".ts"))
    .map((file) => {
      const path = `${folder}/${file}`;
      const text = readFileSync(ROOT + path, "utf8");
      return { path, text, imports: importsOf(path, text) };
    }));

const written = sources.filter(({ path }) => !path.includes("/gen/"));
const served = written.filter(({ path }) => !path.endsWith(".test.ts"));

/** Every import of some files that a rule forbids, as `file -> import`. */
function forbidden(files: readonly Source[], isForbidden: (imported: string, path: string) => boolean): string[] {
  return files.flatMap(({ path, imports }) =>
    imports.filter((imported) => isForbidden(imported, path)).map((imported) => `${path} -> ${imported}`));
}

const isGrpc = (imported: string) => /^(nice-grpc|@grpc\/)/.test(imported);
const isWire = (imported: string) => isGrpc(imported) || /^(@bufbuild\/|libs\/rpc\/)/.test(imported);
const isUnder = (folder: string) => ({ path }: Source) => path.startsWith(folder);

test("there is something to check", () => {
  assert.ok(served.length > 30);
  const { imports } = served.find(({ path }) => path === "libs/rpc/server.ts")!;
  assert.ok(imports.includes("nice-grpc") && imports.includes("libs/rpc/call-gate.js") && imports.includes("libs/errors/errors.js"));
});

test("imports point one way: libs, services, test", () => {
  assert.deepEqual(forbidden(served.filter(isUnder("libs/")), (to) => /^(services|test)\//.test(to)
    // The command line starts services; it is the one place above them that is not a test.
  ).filter((edge) => !edge.startsWith("libs/cli/")), []);
  assert.deepEqual(forbidden(served.filter(isUnder("services/")), (to) => to.startsWith("test/")), []);
});

test("no service imports another", () => {
  const serviceOf = (path: string) => /^services\/([^/]+)\//.exec(path)?.[1];
  const edges = forbidden(written.filter(isUnder("services/")), (to, from) =>
    serviceOf(to) !== undefined && serviceOf(to) !== serviceOf(from));
  assert.deepEqual(edges, []);
});

test("errors import nothing of ours, and configuration and telemetry nothing of the wire", () => {
  assert.deepEqual(forbidden(served.filter(isUnder("libs/errors/")), () => true), []);
  const low = served.filter(({ path }) => /^libs\/(async|config|telemetry)\//.test(path));
  assert.deepEqual(forbidden(low, (to) => to.startsWith("libs/") && !/^libs\/(async|config|errors|telemetry)\//.test(to)), []);
});

test("only libs/rpc sees gRPC", () => {
  assert.deepEqual(forbidden(served.filter(({ path }) => !path.startsWith("libs/rpc/")), isGrpc), []);
});

test("the engine knows no wire and no environment", () => {
  const engine = written.filter(({ path }) => /^services\/generator\/(engine|stages)\//.test(path));
  assert.deepEqual(forbidden(engine, (to) => isWire(to) || to.startsWith("libs/config/")), []);
  assert.deepEqual(engine.filter(({ text }) => text.includes("process.env")).map(({ path }) => path), []);
});

test("ONNX Runtime is seen by libs/onnx and by the one file of the engine that runs the model", () => {
  const others = served.filter(({ path }) => !/^(libs\/onnx\/|test\/|services\/generator\/engine\/onnx-model\.ts)/.test(path));
  assert.deepEqual(forbidden(others, (to) => to.startsWith("onnxruntime-")), []);
  // Sessions are opened by the engine's thread, which puts the engine together, and nowhere else in it.
  const engine = others.filter(isUnder("services/generator/engine/")).filter(({ path }) => !/\/thread(-messages)?\.ts$/.test(path));
  assert.deepEqual(forbidden(engine, (to) => to.startsWith("libs/onnx/")), []);
});

test("no import goes in a circle", () => {
  const graph = new Map(served.map(({ path, text }) => {
    // Types may refer to each other: they are gone when the program runs.
    const loaded = text.replaceAll(/^import type [^;]*;$/gm, "");
    return [path.replace(/ts$/, "js"), importsOf(path, loaded)];
  }));
  const done = new Set<string>();
  const visit = (path: string, trail: readonly string[]): void => {
    assert.ok(!trail.includes(path), [...trail, path].join(" -> "));
    if (done.has(path)) return;
    for (const next of graph.get(path) ?? []) visit(next, [...trail, path]);
    done.add(path);
  };
  for (const path of graph.keys()) visit(path, []);
});

test(`files have at most ${MAX_LINES} lines and kebab-case names`, () => {
  const long = written.filter(({ text }) => text.trimEnd().split("\n").length > MAX_LINES);
  assert.deepEqual(long.map(({ path }) => path), []);
  const misnamed = written.filter(({ path }) => !/^([a-z0-9]+(-[a-z0-9]+)*\/)+[a-z0-9]+(-[a-z0-9]+)*(\.test)?\.ts$/.test(path));
  assert.deepEqual(misnamed.map(({ path }) => path), []);
});

test("exports are named, and no file only passes others on", () => {
  const offenders = written.filter(({ text }) => /^export (default|\*)/m.test(text) || /^export \{[^}]*\} from/m.test(text));
  assert.deepEqual(offenders.map(({ path }) => path), []);
});
