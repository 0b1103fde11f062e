import type { Context } from "@opentelemetry/api";
import { ATTRIBUTES, SPANS } from "#libs/telemetry/names.js";
import { openSpan, type OwnedSpan } from "#libs/telemetry/spans.js";
import type { GenerationEvent } from "./engine/generation.js";

/** The spans of one request: its time in the queue, and a prefill and a decode span for each of its images. */
export class ImageSpans {
  readonly #parent: Context;
  readonly #open = new Map<number, OwnedSpan>();
  #queue: OwnedSpan | undefined;

  /** @param parent of all spans: `yield` loses the active context. */
  constructor(parent: Context) {
    this.#parent = parent;
    this.#queue = openSpan(SPANS.queue, { parent });
  }

  /** Open and close what an event opens and closes. */
  note(event: GenerationEvent): void {
    if (event.type === "queued") this.#queue?.set({ [ATTRIBUTES.queuePosition]: event.position });
    if (event.type === "started") {
      this.#queue?.end();
      this.#queue = undefined;
      this.#begin(SPANS.prefill, event.imageIndex);
    }
    if (event.type === "prefilled") this.#begin(SPANS.decode, event.imageIndex);
    if (event.type === "finished") this.#finish(event.imageIndex);
  }

  /** Close what is still open; as failed if there is an error. */
  end(error?: unknown): void {
    for (const span of [this.#queue, ...this.#open.values()]) {
      if (error !== undefined) span?.fail(error);
      span?.end();
    }
    this.#queue = undefined;
    this.#open.clear();
  }

  #begin(name: typeof SPANS.prefill | typeof SPANS.decode, imageIndex: number): void {
    this.#finish(imageIndex);
    const attributes = { [ATTRIBUTES.imageIndex]: imageIndex };
    this.#open.set(imageIndex, openSpan(name, { parent: this.#parent, attributes }));
  }

  #finish(imageIndex: number): void {
    this.#open.get(imageIndex)?.end();
    this.#open.delete(imageIndex);
  }
}
