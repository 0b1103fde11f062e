import assert from "node:assert/strict";
import { test } from "node:test";
import { openHealthProbe } from "#libs/rpc/health.js";
import { collectImages, errorOf, events, firstEvent, makeImages, startTestStack } from "#test/doubles/start-stack.js";
import { slowBundle } from "#test/doubles/slow-bundle.js";

for (const name of ["decoder", "generator"] as const) {
  test(`a ${name} that is told to stop says NOT_SERVING and still ends its open stream`, async (t) => {
    const stack = await startTestStack({ bundle: await slowBundle(24) });
    t.after(() => stack.stop());
    const service = stack.stack[name];
    const probe = openHealthProbe(service.address);
    t.after(() => probe.close());
    assert.equal(await probe.check(), "serving");

    const call = events(stack, { imageCount: 4 });
    await firstEvent(call, "progress");
    service.kill("SIGTERM");
    while (await probe.check() === "serving");
    const refused = await errorOf(events(stack)) as { kind?: string } | undefined;
    assert.equal(refused?.kind, "not-ready");
    assert.equal((await collectImages(call)).finished.length, 4);
    assert.match((await service.ended).message, /exit code 0/);
  });
}

test("without a collector, stopping neither hangs nor crashes", async () => {
  const stack = await startTestStack({ env: { OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:9" } });
  await makeImages(stack);
  await stack.stop();
  for (const { ended } of Object.values(stack.stack)) assert.match((await ended).message, /exit code 0/);
});
