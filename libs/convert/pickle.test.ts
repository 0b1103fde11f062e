import assert from "node:assert/strict";
import { test } from "node:test";
import { unpickle } from "./pickle.js";

const pickled = (text: string): Buffer => Buffer.from(text, "latin1");

test("values of every kind come back as data", () => {
  assert.equal(unpickle("x", pickled("\x80\x02K\x07.")), 7);
  assert.equal(unpickle("x", pickled("\x80\x02M\x01\x02.")), 513);
  assert.equal(unpickle("x", pickled("\x80\x02J\xfe\xff\xff\xff.")), -2);
  assert.equal(unpickle("x", pickled("\x80\x02\x8a\x02\x00\xff.")), -256);
  assert.equal(unpickle("x", pickled("\x80\x02\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f.")), 2n ** 63n - 1n);
  assert.equal(unpickle("x", pickled("\x80\x02G\x3f\xf8\x00\x00\x00\x00\x00\x00.")), 1.5);
  assert.deepEqual(unpickle("x", pickled("\x80\x02(X\x02\x00\x00\x00abN\x88\x89)t.")), ["ab", null, true, false, []]);
  assert.deepEqual(unpickle("x", pickled("\x80\x02}q\x00(X\x01\x00\x00\x00aK\x01K\x02K\x03u.")), new Map<unknown, unknown>([["a", 1], [2, 3]]));
  assert.deepEqual(unpickle("x", pickled("\x80\x02](K\x01K\x02e.")), [1, 2]);
});

test("classes and functions are named, never looked up or called", () => {
  assert.deepEqual(unpickle("x", pickled("\x80\x02cos\nsystem\nX\x02\x00\x00\x00ls\x85R.")), { kind: "call", name: "os.system", args: ["ls"] });
  assert.deepEqual(unpickle("x", pickled("\x80\x02c__torch__\nNet\n)\x81K\x05b.")), { kind: "object", className: "__torch__.Net", state: 5 });
});

test("a pickle that ends early or holds an unknown opcode is refused", () => {
  const cases: readonly (readonly [text: string, reason: string])[] = [
    ["\x80\x02", "it ends early"], ["\x80\x02X\xff\x00\x00\x00ab.", "it ends early"], ["\x80\x02cos", "it ends early"],
    ["\x80\x02\x95.", "unknown opcode 0x95"], ["\x80\x04N.", "protocol 4 instead of 2"], ["\x80\x02.", "nothing to take"], ["\x80\x02K\x01t.", "no mark"],
    ["\x80\x02h\x05.", "nothing remembered there"], ["\x80\x02K\x01K\x01a.", "no list"], ["\x80\x02K\x01)R.", "no class or function"],
  ];
  for (const [text, reason] of cases) {
    assert.throws(() => unpickle("x.pkl", pickled(text)), (error: Error) => error.message.startsWith("x.pkl: ") && error.message.includes(reason), reason);
  }
});
