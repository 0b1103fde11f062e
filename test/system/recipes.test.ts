import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import {
  create, createFileRegistry, fromBinary, fromJson, toBinary, toJson, type FileRegistry, type JsonObject, type JsonValue,
} from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema, FileDescriptorSetSchema, type FileDescriptorProto } from "@bufbuild/protobuf/wkt";
import { Client, credentials, Metadata } from "@grpc/grpc-js";
import { createChannel, createClient } from "nice-grpc";
import { ServerReflectionService } from "nice-grpc-server-reflection";
import messages from "nice-grpc-server-reflection/lib/proto/grpc/reflection/v1/reflection_pb.js";
import { startTestStack } from "#test/doubles/start-stack.js";

/** What one grpcurl command line asks for. */
interface Recipe {
  /** `host:port`. */
  readonly address: string;
  /** `list`, or `package.Service/Method`. */
  readonly verb: string;
  readonly body: JsonValue;
  readonly headers: Readonly<Record<string, string>>;
}

/** The grpcurl commands of a text in Markdown, continued lines joined. */
function recipesIn(markdown: string): readonly Recipe[] {
  const lines = markdown.replaceAll("\\\n", " ").split("\n").map((line) => line.trim());
  return lines.filter((line) => line.startsWith("grpcurl ")).map(parse);
}

/** Do what grpcurl does, knowing of the server only what its reflection tells. @returns one JSON value a message. */
async function runRecipe({ address, verb, body, headers }: Recipe): Promise<readonly JsonValue[]> {
  if (verb === "list") return (await reflect(address, (request) => request.setListServices("*"))).services;
  const [service, method] = verb.split("/");
  const registry = await describe(address, service);
  const descriptor = registry.getService(service)?.methods.find(({ name }) => name === method);
  if (descriptor === undefined) throw new Error(`no method ${verb}`);
  const request = Buffer.from(toBinary(descriptor.input, fromJson(descriptor.input, body, { registry })));
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
  const client = new Client(address, credentials.createInsecure());
  const same = (bytes: Buffer) => bytes;
  try {
    const responses: JsonValue[] = [];
    // A unary answer is a stream of one message on the wire.
    for await (const bytes of client.makeServerStreamRequest(`/${service}/${method}`, same, same, request, metadata)) {
      responses.push(toJson(descriptor.output, fromBinary(descriptor.output, bytes as Buffer), { registry }));
    }
    return responses;
  } finally {
    client.close();
  }
}

function parse(line: string): Recipe {
  const words = [...line.matchAll(/'([^']*)'|"([^"]*)"|(\S+)/g)].map(([, single, double, bare]) => single ?? double ?? bare).slice(1);
  const headers: Record<string, string> = {};
  const rest: string[] = [];
  let body: JsonValue = {};
  for (let i = 0; i < words.length; i++) {
    if (words[i] === "-plaintext") continue;
    if (words[i] === "-d") body = JSON.parse(words[++i]) as JsonValue;
    else if (words[i] === "-H") {
      const [name, value] = words[++i].split(/: */);
      headers[name] = value;
    } else rest.push(words[i]);
  }
  const [address, verb, ...more] = rest;
  if (verb === undefined || more.length > 0) throw new Error(`not understood: ${line}`);
  return { address, verb, body, headers };
}

async function describe(address: string, symbol: string): Promise<FileRegistry> {
  const { files } = await reflect(address, (request) => request.setFileContainingSymbol(symbol));
  const known = new Map(files.map((file) => [file.name, file]));
  for (const { dependency } of known.values()) {
    for (const name of dependency) {
      if (known.has(name)) continue;
      for (const file of (await reflect(address, (request) => request.setFileByFilename(name))).files) known.set(file.name, file);
    }
  }
  // Those that others import come first.
  const file = [...known.values()].toReversed();
  return createFileRegistry(create(FileDescriptorSetSchema, { file }));
}

type ReflectionRequest = InstanceType<typeof messages.ServerReflectionRequest>;

async function reflect(
  address: string, ask: (request: ReflectionRequest) => ReflectionRequest,
): Promise<{ readonly services: readonly string[]; readonly files: readonly FileDescriptorProto[] }> {
  const channel = createChannel(address);
  const requests = async function* () {
    yield ask(new messages.ServerReflectionRequest());
  };
  try {
    for await (const answer of createClient(ServerReflectionService, channel).serverReflectionInfo(requests())) {
      const { errorResponse, listServicesResponse } = answer.toObject();
      if (errorResponse) throw new Error(errorResponse.errorMessage);
      const files = answer.getFileDescriptorResponse()?.getFileDescriptorProtoList_asU8() ?? [];
      return {
        services: listServicesResponse?.serviceList.map(({ name }) => name) ?? [],
        files: files.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes)),
      };
    }
    throw new Error("no answer from reflection");
  } finally {
    channel.close();
  }
}

const readme = readFileSync(new URL("../../../README.md", import.meta.url), "utf8");

/** The standard ports, as the README has them. */
const SERVICE_OF_PORT: Readonly<Record<string, "tokenizer" | "generator" | "decoder">> = {
  50051: "tokenizer", 50052: "generator", 50053: "decoder",
};

test("every grpcurl recipe of the README works, by reflection alone", async (t) => {
  const recipes = recipesIn(readme);
  assert.ok(recipes.length >= 5);
  const { stack, stop } = await startTestStack();
  t.after(stop);
  for (const recipe of recipes) {
    const name = SERVICE_OF_PORT[recipe.address.split(":")[1]];
    const responses = await runRecipe({ ...recipe, address: stack[name].address });
    assert.ok(responses.length > 0, recipe.verb);
    if (recipe.verb === "list") assert.deepEqual(responses, [`tessera.v1.${name[0].toUpperCase()}${name.slice(1)}Service`]);
    if (recipe.verb.endsWith("/GenerateImage")) assert.ok((responses.at(-1) as JsonObject)["imageFinished"]);
    if (recipe.verb.endsWith("/Generate")) assert.ok(responses.some((response) => (response as JsonObject)["tokenChunk"]));
  }
});

test("a recipe with a mistake would not pass", async (t) => {
  const { stack, stop } = await startTestStack();
  t.after(stop);
  const run = (line: string) => runRecipe({ ...recipesIn(line)[0], address: stack.tokenizer.address });
  await assert.rejects(run(`grpcurl -plaintext -d '{"promt": "a"}' localhost:50051 tessera.v1.TokenizerService/Encode`), /promt/);
  await assert.rejects(run("grpcurl -plaintext localhost:50051 tessera.v1.TokenizerService/Encoded"), /no method/);
});
