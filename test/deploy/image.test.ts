import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { builtinModules } from "node:module";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { DRAIN_MS } from "#libs/rpc/limits.js";
import { DEPLOY, type Yaml } from "./render.js";

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));
const dockerfile = readFileSync(`${DEPLOY}Dockerfile`, "utf8").replaceAll("\\\n", "");
const stages = dockerfile.split(/^(?=FROM )/m).slice(1);
const final = stages.at(-1)!;
const compose = parse(readFileSync(`${DEPLOY}compose.yaml`, "utf8"), { merge: true }) as Yaml;

test("the final image runs nothing, is not root, and holds no sources", () => {
  assert.doesNotMatch(final, /^RUN /m);
  assert.match(final, /^USER 65532:65532$/m);
  const copied = [...final.matchAll(/^COPY --from=build (.+) \S+$/gm)].flatMap(([, paths]) => paths.split(" "));
  assert.deepEqual(copied.sort(), ["/app/LICENSE", "/app/NOTICE", "/app/dist", "/app/libs/models", "/app/node_modules", "/app/package.json"]);
  assert.match(dockerfile, /^FROM gcr\.io\/distroless\/nodejs20-debian12:nonroot AS runtime-cpu$/m);
});

test("what the build copies exists, and nothing else is sent to it", () => {
  const [build] = stages;
  const copied = [...build.matchAll(/^COPY (.+) \S+$/gm)].flatMap(([, paths]) => paths.split(" "));
  const [everything, ...rules] = readFileSync(`${DEPLOY}Dockerfile.dockerignore`, "utf8").trim().split("\n");
  assert.equal(everything, "*");
  const sent = rules.filter((rule) => rule.startsWith("!")).map((rule) => rule.slice(1));
  assert.deepEqual([...copied].sort(), [...sent].sort());
  for (const path of copied) assert.ok(existsSync(ROOT + path), path);
});

test("services import nothing that the final image lacks", () => {
  const { dependencies } = JSON.parse(readFileSync(`${ROOT}package.json`, "utf8")) as { dependencies: Record<string, string> };
  const files = ["libs", "services"].flatMap((folder) => readdirSync(`${ROOT}${folder}`, { recursive: true, encoding: "utf8" })
    .map((file) => `${folder}/${file}`))
    .filter((file) => file.endsWith(".ts") && !file.endsWith(".test.ts") && !file.startsWith("libs/training/"));
  const foreign = files.flatMap((file) => {
    const imports = readFileSync(ROOT + file, "utf8").matchAll(/^import (?!type )[^"]*"([^"#.][^"]*)"|\bimport\("([^"#.][^"]*)"\)/gm);
    return Array.from(imports, ([, fixed, dynamic]) => fixed ?? dynamic)
      .map((name) => (name.startsWith("@") ? name.split("/").slice(0, 2).join("/") : name.split("/")[0]))
      .filter((name) => !name.startsWith("node:") && !builtinModules.includes(name) && !Object.hasOwn(dependencies, name))
      .map((name) => `${file} -> ${name}`);
  });
  assert.ok(files.length > 100);
  assert.deepEqual(foreign, []);
});

test("compose starts the three services as the image has them, with time to drain, one door and no privileges", () => {
  for (const name of ["tokenizer", "generator", "decoder"]) {
    const service = compose.services[name];
    assert.ok(existsSync(ROOT + service.command[0].replace("dist/", "").replace(/\.js$/, ".ts")), name);
    assert.ok(parseInt(service.stop_grace_period, 10) * 1000 > DRAIN_MS + 5000);
    assert.deepEqual([service.read_only, service.cap_drop, service.environment.TESSERA_ADDRESS.split(":")[0]], [true, ["ALL"], "0.0.0.0"]);
    assert.deepEqual(service.ports, name === "decoder" ? ["127.0.0.1:50053:50053"] : undefined);
  }
  for (const { volumes = [] } of Object.values(compose.services) as Yaml[]) {
    for (const volume of volumes) assert.ok(existsSync(DEPLOY + volume.split(":")[0]), volume);
  }
});
