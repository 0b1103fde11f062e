import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import type { JsonObject } from "@bufbuild/protobuf";
import { startTestStack } from "#test/doubles/start-stack.js";
import { recipesIn, runRecipe } from "#test/doubles/grpcurl.js";

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
