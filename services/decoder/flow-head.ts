import { basename } from "node:path";
import type { StageManifest } from "#libs/bundle/stage-manifest.js";
import { type AppError, mismatch } from "#libs/errors/errors.js";
import type { Latent } from "#libs/flow/latent.js";
import type { SessionOptions } from "#libs/onnx/create-session.js";
import { OnnxSession, type TensorData } from "#libs/onnx/session.js";

/** One branch of one image at one moment of the flow. */
export interface FlowQuery {
  /** 0 is the coarsest. */
  readonly stage: number;
  readonly latent: Latent;
  /** `[height * width, tokenMapChannels]`. */
  readonly tokenMap: Float32Array;
  /** Of the whole flow, 0 .. 1. */
  readonly time: number;
}

/** A query that waits for its turn. */
interface Waiting {
  readonly query: FlowQuery;
  readonly resolve: (velocity: Latent) => void;
  readonly reject: (error: unknown) => void;
}

const INPUTS = ["latent", "token_map", "time", "stage", "cells"];

/** Rows of one pass; more would hold up the stage that waits longest for little gain. */
const MAX_ROWS = 32;

/**
 * Tells velocities, in a thread of its own. Whatever waits at one stage when the thread is free goes through in one pass,
 * of all images and requests, whichever step each is at; the stage that waits longest comes first.
 */
export class FlowHead {
  readonly #session: OnnxSession;
  /** First cell of each stage, counted over all. */
  readonly #firstCells: readonly number[];
  #waiting: Waiting[] = [];
  #isBusy = false;

  /** Load the graph. The caller closes it. @throws mismatch if it is not what the bundle describes; else as `OnnxSession.open`. */
  static async open(graphFile: string, manifest: StageManifest, options: SessionOptions): Promise<FlowHead> {
    const session = await OnnxSession.open(graphFile, options);
    if (INPUTS.every((name) => session.inputs.some((input) => input.name === name))) return new FlowHead(session, manifest);
    await session.close();
    throw mismatch(`${basename(graphFile)} must take ${INPUTS.join(", ")}`);
  }

  private constructor(session: OnnxSession, { stages }: StageManifest) {
    this.#session = session;
    let cells = 0;
    this.#firstCells = stages.map(({ height, width }) => (cells += height * width) - height * width);
  }

  /** Settles once the thread has ended: undefined after `close()`, the error if it crashed. Never rejects. */
  get ended(): Promise<AppError | undefined> {
    return this.#session.ended;
  }

  /** End the thread; queries that wait reject with "not-ready". May be called again. */
  close(): Promise<void> {
    return this.#session.close();
  }

  /** The velocity of one query. @throws the signal's reason when it aborts first: a query that still waits is never run. */
  async velocity(query: FlowQuery, { signal }: { readonly signal?: AbortSignal } = {}): Promise<Latent> {
    signal?.throwIfAborted();
    let leave: (() => void) | undefined;
    try {
      return await new Promise<Latent>((resolve, reject) => {
        const waiting: Waiting = { query, resolve, reject };
        leave = () => {
          this.#waiting = this.#waiting.filter((each) => each !== waiting);
          reject(signal?.reason);
        };
        signal?.addEventListener("abort", leave);
        this.#waiting.push(waiting);
        // After whoever else asks in this moment.
        queueMicrotask(() => void this.#work());
      });
    } finally {
      if (leave !== undefined) signal?.removeEventListener("abort", leave);
    }
  }

  async #work(): Promise<void> {
    if (this.#isBusy) return;
    this.#isBusy = true;
    while (this.#waiting.length > 0) {
      const { stage } = this.#waiting[0].query;
      const batch = this.#waiting.filter(({ query }) => query.stage === stage).slice(0, MAX_ROWS);
      this.#waiting = this.#waiting.filter((each) => !batch.includes(each));
      try {
        const velocities = await this.#pass(stage, batch.map(({ query }) => query));
        batch.forEach(({ resolve }, row) => resolve(velocities[row]));
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
    }
    this.#isBusy = false;
  }

  async #pass(stage: number, queries: readonly FlowQuery[]): Promise<readonly Latent[]> {
    const [{ latent: { channels, height, width } }] = queries;
    const rows = queries.length;
    const cells = height * width;
    const side = (of: (query: FlowQuery) => Float32Array): Float32Array => {
      const all = new Float32Array(rows * of(queries[0]).length);
      queries.forEach((query, row) => all.set(of(query), row * of(query).length));
      return all;
    };
    const floats = (data: Float32Array, ...dims: readonly number[]): TensorData => ({ type: "float32", data, dims });
    const tokenMap = side((query) => query.tokenMap);
    const { velocity } = await this.#session.run({
      latent: floats(side(({ latent }) => latent.values), rows, channels, height, width),
      token_map: floats(tokenMap, rows, cells, tokenMap.length / rows / cells),
      time: floats(Float32Array.from(queries, ({ time }) => time), rows),
      stage: { type: "int64", data: new BigInt64Array(rows).fill(BigInt(stage)), dims: [rows] },
      cells: {
        type: "int64", dims: [rows, cells],
        data: BigInt64Array.from({ length: rows * cells }, (_, i) => BigInt(this.#firstCells[stage] + (i % cells))),
      },
    }, ["velocity"], { transferFeeds: true });
    const size = channels * cells;
    return queries.map((_, row) => (
      { channels, height, width, values: (velocity.data as Float32Array).slice(row * size, (row + 1) * size) }
    ));
  }
}
