import type { ClientMiddleware } from "nice-grpc";
import { count, recordDuration } from "#libs/telemetry/metrics.js";
import { ATTRIBUTES, METRICS } from "#libs/telemetry/names.js";
import type { ByteMeter } from "./definition.js";

/** What measures one edge between two services, at the caller's end. */
export interface Edge {
  readonly meter: ByteMeter;
  /** Records for each call how long it waited for the peer's messages in all. */
  readonly middleware: ClientMiddleware;
}

/** @param caller e.g. `decoder`. @param peer e.g. `generator`. */
export function openEdge(caller: string, peer: string): Edge {
  const up = { [ATTRIBUTES.from]: caller, [ATTRIBUTES.to]: peer };
  const down = { [ATTRIBUTES.from]: peer, [ATTRIBUTES.to]: caller };
  const note = (bytes: number, edge: typeof up) => {
    count(METRICS.edgeBytes, bytes, edge);
    count(METRICS.edgeMessages, 1, edge);
  };
  return {
    meter: { requested: (bytes) => note(bytes, up), responded: (bytes) => note(bytes, down) },
    async *middleware(call, options) {
      let waitedMs = 0;
      let waitingSince: number | undefined = performance.now();
      const arrived = () => {
        if (waitingSince !== undefined) waitedMs += performance.now() - waitingSince;
        waitingSince = undefined;
      };
      try {
        if (!call.responseStream) return yield* call.next(call.request, options);
        for await (const response of call.next(call.request, options)) {
          arrived();
          yield response;
          waitingSince = performance.now();
        }
        return;
      } finally {
        arrived();
        recordDuration(METRICS.edgeWait, waitedMs, down);
      }
    },
  };
}
