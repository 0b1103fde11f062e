import { monitorEventLoopDelay } from "node:perf_hooks";
import { observe } from "./metrics.js";
import { METRICS } from "./names.js";

/** How often the loop is looked at; shorter delays don't show. */
const RESOLUTION_MS = 10;

/** Report from now on how long the event loop was held up: nothing that computes may run on it. Once a process. */
export function observeEventLoop(): void {
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  delay.enable();
  observe(METRICS.eventLoopDelay, () => {
    // Node counts the time from one look to the next, so that an idle loop shows the resolution.
    const seconds = Math.max(0, delay.max / 1e9 - RESOLUTION_MS / 1000);
    delay.reset();
    return seconds;
  });
}
