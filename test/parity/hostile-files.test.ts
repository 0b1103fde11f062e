import assert from "node:assert/strict";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { readSafetensorsFolder } from "#libs/convert/safetensors.js";
import { parseTextVocabulary } from "#libs/convert/text-vocabulary.js";
import { readTorchArchive } from "#libs/convert/torch-archive.js";
import { Fields } from "#libs/json/fields.js";
import { pickledModule, pickledTensor, pickleOf } from "#test/fixtures/write-torch-archive.js";
import { zipOf, type ZipEntry } from "#test/fixtures/write-zip.js";

const NOTHING = pickleOf(Buffer.from("N"));
const STORAGE: ZipEntry = { name: "archive/data/0", bytes: new Uint8Array(16) };

let folder: string;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "tessera-hostile-"));
});
after(() => rm(folder, { recursive: true }));

async function refused(bytes: Uint8Array, message: RegExp): Promise<void> {
  const path = join(folder, "hostile.jit");
  await writeFile(path, bytes);
  await assert.rejects(readTorchArchive(path), (error: Error & { kind?: string }) => {
    assert.equal(error.kind, "mismatch", error.stack);
    assert.match(error.message, /^hostile\.jit: /);
    assert.match(error.message, message);
    return true;
  });
}

/** An archive around a pickle, with one storage of four float32. */
const archive = (pickle: Buffer): Buffer => zipOf([{ name: "archive/data.pkl", bytes: pickle }, STORAGE]);

/** A good archive with some bytes of the only entry's directory record replaced. */
function withDirectory(at: number, ...bytes: readonly number[]): Buffer {
  const zip = zipOf([{ name: "archive/data.pkl", bytes: NOTHING }]);
  zip.set(bytes, zip.indexOf(Buffer.from([0x50, 0x4b, 1, 2])) + at);
  return zip;
}

test("a good archive of nothing is no hostile one", async () => {
  const path = join(folder, "good.jit");
  await writeFile(path, archive(pickleOf(pickledModule(new Map([["x", tensor()]])))));
  assert.deepEqual(await (await readTorchArchive(path)).floats("x", [2, 2]), new Float32Array(4));
});

test("zip files that lie about their entries are refused", async () => {
  const twice = { name: "archive/data.pkl", bytes: NOTHING };
  await refused(zipOf([twice, twice]), /entry `archive\/data\.pkl` is there twice/);
  for (const name of ["../data.pkl", "archive/../../x", "/etc/data.pkl", "archive\\data.pkl", "C:data.pkl", ""]) {
    await refused(zipOf([twice, { name, bytes: NOTHING }]), /entry ".*" must lie inside the archive/);
  }
  await refused(zipOf([]), /no TorchScript archive/);
  await refused(zipOf([twice, { name: "other/data.pkl", bytes: NOTHING }]), /it must have one data\.pkl/);
  await refused(withDirectory(10, 8), /must be stored uncompressed/);
  await refused(withDirectory(24, 0xfe, 0xff, 0xff, 0xff), /must be stored uncompressed/);
  await refused(withDirectory(20, 0xfe, 0xff, 0xff, 0x7f, 0xfe, 0xff, 0xff, 0x7f), /cut short, damaged or no zip file/);
  await refused(withDirectory(20, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), /cut short, damaged or no zip file/);
  await refused(withDirectory(42, 0xff, 0xff, 0xff, 0x7f), /cut short, damaged or no zip file/);
  const crowded = zipOf([twice]);
  crowded.fill(0xff, crowded.length - 14, crowded.length - 10);
  await refused(crowded, /cut short, damaged or no zip file/);
});

function tensor(changes: Partial<Parameters<typeof pickledTensor>[0]> = {}): Buffer {
  return pickledTensor({ type: "F32", key: "0", count: 4, offset: 0, shape: [2, 2], strides: [2, 1], ...changes });
}

test("arrays that do not fit their storage are refused before anything is read", async () => {
  const big = Number.MAX_SAFE_INTEGER;
  const cases: readonly (readonly [changes: Parameters<typeof tensor>[0], message: RegExp])[] = [
    [{ offset: 1 }, /`x` reaches beyond its storage/],
    [{ shape: [big, big, big], strides: [1, 1, 1] }, /`x` reaches beyond its storage/],
    [{ shape: [big], strides: [0] }, /`x` reaches beyond its storage/],
    [{ shape: [2], strides: [big] }, /`x` reaches beyond its storage/],
    [{ shape: [2, 2], strides: [1] }, /`x` is not stored as TorchScript does/],
    [{ shape: [-2, -2] }, /`x` is not stored as TorchScript does/],
    [{ offset: -1 }, /`x` is not stored as TorchScript does/],
    [{ count: big }, /storage 0 of `x` must have \d+ bytes, got 16/],
    [{ type: "F16" }, /storage 0 of `x` must have 8 bytes, got 16/],
    [{ key: "1" }, /entry `archive\/data\/1` is missing/],
    [{ key: "../../../etc/passwd" }, /entry `archive\/data\/\.\.\/\.\.\/\.\.\/etc\/passwd` is missing/],
  ];
  for (const [changes, message] of cases) await refused(archive(pickleOf(pickledModule(new Map([["x", tensor(changes)]])))), message);
});

/** An object whose only attributes hold, by name, what `get` fetches from the memo. */
const holder = (names: string, get: string): string =>
  `c__torch__\nNet\n)\x81}(${[...names].map((name) => `X\x01\0\0\0${name}${get}`).join("")}ub`;

test("pickles made to run away are refused", async () => {
  const raw = (text: string): Buffer => pickleOf(Buffer.from(text, "latin1"));
  await refused(archive(raw("c__torch__\nNet\n)\x81q\0}(X\x01\0\0\0ah\0ub")), /hold one another/);
  await refused(archive(raw("c__torch__\nNet\n)\x81q\0}(X\0\0\0\0h\0ub")), /an attribute without a name/);
  await refused(archive(raw("c__torch__\nNet\n)\x81}(K\x01Nub")), /an attribute without a name/);
  const doubling = Array.from({ length: 60 }, (_, level) => `${holder("ab", level === 0 ? "N" : `h${String.fromCharCode(level - 1)}`)}q${String.fromCharCode(level)}0`);
  await refused(archive(raw(`${doubling.join("")}h\x3b`)), /are too many/);
  const open = "c__torch__\nNet\n)\x81}(X\x01\0\0\0a";
  await refused(archive(raw(`${open.repeat(50_000)}N${"ub".repeat(50_000)}`)), /nest too deep/);
  const lists = `${"(".repeat(100_000)}${"t".repeat(100_000)}`;
  await refused(archive(raw(`c__torch__\nNet\n)\x81}(${lists}Nub`)), /an attribute without a name/);
  await refused(archive(Buffer.concat([Buffer.from([0x80, 2]), Buffer.alloc(2 ** 24, "N")])), /must have at most 16777216 bytes/);
  await refused(archive(raw("Nr\xff\xff\xff\xff0h\0")), /nothing remembered there/);
  for (const opcode of ["i", "o", "\x82", "\x83", "\x84", "\x92", "\x93", "\x94", "\x95", "P", "I", "B"]) {
    await refused(archive(raw(`N${opcode}`)), /unknown opcode 0x/);
  }
});

test("a pickle that calls something is read as data", async () => {
  const path = join(folder, "call.jit");
  const marker = join(folder, "executed");
  const command = Buffer.from(`touch ${marker}`);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(command.length);
  const call = Buffer.concat([Buffer.from("cos\nsystem\nX"), length, command, Buffer.from("\x85R", "latin1")]);
  await writeFile(path, archive(pickleOf(pickledModule(new Map([["x", tensor()], ["y", call]])))));
  assert.deepEqual((await readTorchArchive(path)).names, ["x"]);
  await assert.rejects(readFile(marker), { code: "ENOENT" });
});

test("an index or a header that leads elsewhere, or says something twice, is refused", async () => {
  const lm = join(folder, "lm");
  await mkdir(lm);
  const index = (text: string): Promise<void> => writeFile(join(lm, "model.safetensors.index.json"), text);
  for (const file of ["..", ".", "../x.safetensors", "/etc/passwd", "a/../b", "a\\b", "", ".hidden", "-"]) {
    await index(JSON.stringify({ weight_map: { x: file } }));
    await assert.rejects(readSafetensorsFolder(lm), { kind: "mismatch", message: "model.safetensors.index.json: shards must be plain file names" });
  }
  const cases: readonly (readonly [text: string, message: RegExp])[] = [
    ['{"weight_map": {"x": 3}}', /shards must be plain file names/],
    ['{"weight_map": ["x"]}', /`weight_map` must be an object/],
    ["[]", /must be an object/],
    ['{"weight_map": {"x": "none.safetensors"}}', /none\.safetensors cannot be read \(ENOENT\)/],
    ['{"weight_map": {"x": "a.safetensors", "x": "b.safetensors"}}', /`x` is there twice/],
    [`{"weight_map": ${"[".repeat(100_000)}${"]".repeat(100_000)}}`, /`weight_map` must be an object/],
  ];
  for (const [text, message] of cases) {
    await index(text);
    await assert.rejects(readSafetensorsFolder(lm), (error: Error & { kind?: string }) => error.kind === "mismatch" && message.test(error.message), text.slice(0, 80));
  }
});

test("nesting without end is refused in small files too", async () => {
  const deep = `${"[".repeat(100_000)}${"]".repeat(100_000)}`;
  const path = join(folder, "config.json");
  await writeFile(path, `{"model_type": ${deep}}`);
  const fields = await Fields.fromFile(path);
  assert.throws(() => fields.oneOf("model_type", ["qwen2"]), { kind: "mismatch", message: /got too deep a value to show$/ });
  await writeFile(path, `{"a": "${"x".repeat(2 ** 20)}"}`);
  await assert.rejects(Fields.fromFile(path), { kind: "mismatch", message: /config\.json: must have at most 1048576 bytes/ });
  for (const text of [deep, `{"model": {"vocab": ${deep}}, "added_tokens": []}`, '{"model": null}', "null", '{"model": {"vocab": {"a": 1e300}}, "added_tokens": []}']) {
    assert.throws(() => parseTextVocabulary(text), { kind: "mismatch" });
  }
});
