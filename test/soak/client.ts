import { setTimeout as sleep } from "node:timers/promises";
import { settlesWithin } from "#libs/async/within.js";
import { AppError, type ErrorKind } from "#libs/errors/errors.js";
import { connect } from "#libs/rpc/client.js";
import type { CallLimits, ServiceClient } from "#libs/rpc/definition.js";
import { DecoderService, type GenerateImageResponse, type ImageFinished } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import type { Dice } from "#test/doubles/fuzz.js";
import { CuttingProxy } from "./cutting-proxy.js";
import type { Generation } from "./recipe.js";

/** What a client does while its images are made. */
export const BEHAVIOURS = ["patient", "slow", "cancels", "leaves", "dropped", "hurried"] as const;

/** One of `BEHAVIOURS`. */
export type Behaviour = (typeof BEHAVIOURS)[number];

/** How often each is met. */
const SHARES: readonly Behaviour[] = [
  "patient", "patient", "patient", "patient", "patient", "slow", "cancels", "cancels", "leaves", "dropped", "hurried",
];

/** One call from beginning to end. */
export interface Call {
  readonly behaviour: Behaviour;
  readonly generation: Generation;
  /** After how many events the client does what it does, if that is once. */
  readonly patience: number;
  /** Milliseconds: between two events of a slow client, or until a hurried one's deadline. */
  readonly delayMs: number;
  readonly previewIntervalRows: number;
}

/** How a call ended for its client: all images there, its own leaving, an error, or nothing at all within `HANG_MS`. */
export type Outcome = "complete" | "left" | ErrorKind | "nothing";

/** What a client has seen. */
export interface Seen {
  readonly outcome: Outcome;
  /** Images that were complete, whatever came after. */
  readonly finished: readonly ImageFinished[];
  readonly retryDelayMs: number | undefined;
}

/** How each behaviour may end when all services are up. */
export const DEFINITE: Readonly<Record<Behaviour, readonly Outcome[]>> = {
  patient: ["complete", "overloaded"],
  slow: ["complete", "overloaded"],
  cancels: ["complete", "overloaded", "cancelled"],
  leaves: ["complete", "overloaded", "left"],
  dropped: ["complete", "overloaded", "not-ready"],
  hurried: ["complete", "overloaded", "deadline-exceeded"],
};

/** What is not over by then never will be. */
const HANG_MS = 120_000;

const MAX_EVENTS = 12;
const MAX_SLOW_MS = 30;
const MAX_HURRY_MS = 600;

/** A call of random behaviour. */
export function randomCall(generation: Generation, dice: Dice): Call {
  const behaviour = dice.pick(SHARES);
  return {
    behaviour, generation, patience: dice.roll(MAX_EVENTS), previewIntervalRows: dice.pick([0, 0, 1, 3]),
    delayMs: 1 + dice.roll(behaviour === "hurried" ? MAX_HURRY_MS : MAX_SLOW_MS),
  };
}

type Client = Pick<ServiceClient<typeof DecoderService>, "generateImage">;

/** What a client may do to its own call. */
interface Means {
  readonly client: Client;
  cut(): void;
}

/** Make a call. @param client shared by all whose connection stays whole. @param address of the decoder. */
export async function makeCall(call: Call, client: Client, address: string): Promise<Seen> {
  const finished: ImageFinished[] = [];
  let end: { readonly outcome: Outcome; readonly retryDelayMs?: number } = { outcome: "nothing" };
  const work = withMeans(call, client, address, (means) => attend(call, means, finished)).then(
    (outcome) => void (end = { outcome }),
    (error: unknown) => {
      const { kind, retryDelayMs } = AppError.from(error);
      end = { outcome: kind, ...(retryDelayMs !== undefined && { retryDelayMs }) };
    },
  );
  await settlesWithin(work, HANG_MS);
  return { outcome: end.outcome, finished, retryDelayMs: end.retryDelayMs };
}

async function withMeans<T>({ behaviour }: Call, client: Client, address: string, work: (means: Means) => Promise<T>): Promise<T> {
  if (behaviour !== "dropped") return work({ client, cut: () => {} });
  const proxy = await CuttingProxy.open(address);
  const own = connect(DecoderService, proxy.address);
  try {
    return await work({ client: own.client, cut: () => proxy.cut() });
  } finally {
    own.close();
    proxy.close();
  }
}

/** Read the events of a call and do meanwhile what its client does. */
async function attend(call: Call, { client, cut }: Means, finished: ImageFinished[]): Promise<"complete" | "left"> {
  const { behaviour, generation, previewIntervalRows, delayMs } = call;
  const cancel = new AbortController();
  const limits: CallLimits = behaviour === "hurried" ? { timeoutMs: delayMs } : {};
  const responses: AsyncIterable<GenerateImageResponse> = client.generateImage(
    { generation, previewIntervalRows }, { ...limits, signal: cancel.signal },
  );
  let patience = call.patience;
  if (behaviour === "cancels" && patience === 0) setImmediate(() => cancel.abort());
  for await (const { event } of responses) {
    if (event.case === "imageFinished") finished.push(event.value);
    if (behaviour === "slow") await sleep(delayMs);
    if (--patience > 0) continue;
    if (behaviour === "leaves") return "left";
    if (behaviour === "cancels") cancel.abort();
    if (behaviour === "dropped") cut();
  }
  return "complete";
}
