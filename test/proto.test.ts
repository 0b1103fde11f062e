import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import { fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema, type FileDescriptorProto } from "@bufbuild/protobuf/wkt";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const BIN = join(ROOT, "node_modules/.bin");

function buf(...args: readonly string[]): Buffer {
  const env = { ...process.env, PATH: `${BIN}${delimiter}${process.env["PATH"]}` };
  return execFileSync(join(BIN, "buf"), args, { cwd: ROOT, env });
}

function temporaryFolder(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "tessera-proto-"));
  t.after(() => rmSync(folder, { recursive: true }));
  return folder;
}

function filesIn(folder: string): Map<string, string> {
  const names = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"));
  return new Map(names.sort().map((name) => [name, readFileSync(join(folder, name), "utf8")]));
}

test("the committed code is what the .proto files generate", (t) => {
  const folder = temporaryFolder(t);
  buf("generate", "proto", "--template", "proto/buf.gen.yaml", "--output", folder);
  const fresh = filesIn(join(folder, "libs/rpc/gen"));
  assert.ok(fresh.size >= 4);
  assert.deepEqual(filesIn(join(ROOT, "libs/rpc/gen")), fresh);
});

test("the .proto files pass buf's standard rules", () => {
  assert.equal(buf("lint", "proto").toString(), "");
});

/** Numbers of the fields of a descriptor that hold commented things, by what they are. @see descriptor.proto */
const MESSAGE = 4, ENUM = 5, SERVICE = 6, FIELD = 2, NESTED = 3, NESTED_ENUM = 4, ONEOF = 8, METHOD = 2, VALUE = 2;

/** Everything in a file that wants a comment: its name and its path in the source info. */
function declarations(file: FileDescriptorProto): { readonly name: string; readonly path: readonly number[] }[] {
  type Message = FileDescriptorProto["messageType"][number];
  type Enum = FileDescriptorProto["enumType"][number];
  const ofEnum = (type: Enum, path: number[]) => [
    { name: type.name, path },
    ...type.value.map(({ name }, i) => ({ name, path: [...path, VALUE, i] })),
  ];
  const ofMessage = (type: Message, path: number[]): { name: string; path: number[] }[] => [
    { name: type.name, path },
    ...type.field.map(({ name }, i) => ({ name: `${type.name}.${name}`, path: [...path, FIELD, i] })),
    ...type.oneofDecl.flatMap(({ name }, i) => type.field.some((field) => field.oneofIndex === i && field.proto3Optional)
      ? [] : [{ name: `${type.name}.${name}`, path: [...path, ONEOF, i] }]),
    ...type.nestedType.flatMap((nested, i) => ofMessage(nested, [...path, NESTED, i])),
    ...type.enumType.flatMap((nested, i) => ofEnum(nested, [...path, NESTED_ENUM, i])),
  ];
  return [
    ...file.messageType.flatMap((type, i) => ofMessage(type, [MESSAGE, i])),
    ...file.enumType.flatMap((type, i) => ofEnum(type, [ENUM, i])),
    ...file.service.flatMap((service, i) => [
      { name: service.name, path: [SERVICE, i] },
      ...service.method.map((method, j) => ({ name: `${service.name}.${method.name}`, path: [SERVICE, i, METHOD, j] })),
    ]),
  ];
}

test("every service, method, message, field and enum value is commented", () => {
  const { file: files } = fromBinary(FileDescriptorSetSchema, buf("build", "proto", "--as-file-descriptor-set", "-o", "-"));
  const bare: string[] = [];
  let checked = 0;
  for (const file of files) {
    const locations = file.sourceCodeInfo?.location ?? [];
    const commented = new Set(locations.filter((l) => l.leadingComments.trim()).map((l) => l.path.join()));
    for (const { name, path } of declarations(file)) {
      checked++;
      if (!commented.has(path.join())) bare.push(`${file.name}: ${name}`);
    }
  }
  assert.deepEqual(bare, []);
  assert.ok(checked > 100);
});
