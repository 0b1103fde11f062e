import type { ImageTimings } from "#libs/rpc/gen/tessera/v1/decoder_pb.js";
import type { GeneratedImages } from "./generate-images.js";

/** The files that were written. */
export interface WrittenFiles {
  /** The picture, or the contact sheet of several. */
  readonly file: string;
  /** One for each image, in order. */
  readonly files: readonly string[];
}

/** How long it took, in seconds. */
export interface Durations {
  /** From the start of the command to the last file. */
  readonly seconds: number;
  /** Of these: starting the services. */
  readonly startSeconds: number;
}

/** Where the time of one image went, in milliseconds. */
export interface ReportedTimings {
  readonly tokenizeMs: number;
  readonly queueMs: number;
  readonly prefillMs: number;
  readonly decodeMs: number;
  /** Passes of the model after prefill: fewer than tokens where drafts were right. */
  readonly decodeSteps: number;
  /** Drafted tokens that were verified. */
  readonly draftedTokens: number;
  /** Of these: right. */
  readonly acceptedTokens: number;
  /** Times the image gave way to a more urgent one. */
  readonly preemptions: number;
  readonly detokenizeMs: number;
  readonly encodeMs: number;
  readonly previewMs: number;
  readonly totalMs: number;
}

/** What `generate --json` prints as its last line. `height` and `width` are those of one image, in pixels. */
export interface Report extends WrittenFiles, Durations {
  readonly width: number;
  readonly height: number;
  /** Decimal: a JSON number cannot hold 64 bits. */
  readonly seed: string;
  /** Image tokens, all images together. */
  readonly tokens: number;
  /** Decode steps, drafted and accepted tokens of all images together; each image's own are in its timings. */
  readonly decodeSteps: number;
  readonly draftedTokens: number;
  readonly acceptedTokens: number;
  /** The bundle's name. */
  readonly model: string;
  readonly guidanceScale: number;
  /** 0 for continuous tokens, like the next two. */
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly images: readonly { readonly file: string; readonly tokenDigest: string; readonly timings: ReportedTimings }[];
}

/** What a call made, in plain values. */
export function reportOf({ started, images }: GeneratedImages, written: WrittenFiles, durations: Durations): Report {
  const { settings, imageTokenCount } = started;
  const { height, width } = images[0].picture;
  const timings = images.map(({ finished }) => timingsOf(finished.timings));
  const sum = (of: (timings: ReportedTimings) => number) => timings.reduce((all, one) => all + of(one), 0);
  return {
    ...written,
    width,
    height,
    seed: String(settings?.seed ?? 0n),
    tokens: imageTokenCount * images.length,
    decodeSteps: sum(({ decodeSteps }) => decodeSteps),
    draftedTokens: sum(({ draftedTokens }) => draftedTokens),
    acceptedTokens: sum(({ acceptedTokens }) => acceptedTokens),
    ...durations,
    model: started.model?.name ?? "",
    guidanceScale: rounded(settings?.guidanceScale),
    temperature: rounded(settings?.temperature),
    topK: settings?.topK ?? 0,
    topP: rounded(settings?.topP),
    images: images.map(({ finished }, index) => ({
      file: written.files[index], tokenDigest: finished.tokenDigest, timings: timings[index],
    })),
  };
}

/** The same for people. */
export function summaryOf(report: Report): string {
  const { files, width, height, tokens, seconds, startSeconds, images, decodeSteps, draftedTokens, acceptedTokens } = report;
  const several = files.length > 1 ? `${files.length} images in ${files[0]} .. and a contact sheet\n` : "";
  const decodeMs = images.reduce((sum, { timings }) => sum + timings.decodeMs, 0);
  const drafts = draftedTokens > 0 ? ` with ${acceptedTokens} of ${draftedTokens} drafts right` : "";
  // Continuous tokens are not drawn one by one, and have none of these.
  const sampling = report.topP === 0 ? [] : [`temperature ${report.temperature}`, `top-k ${report.topK}`, `top-p ${report.topP}`];
  const settings = [`guidance ${report.guidanceScale}`, ...sampling];
  return `${several}${report.file}
  ${width} x ${height} pixels, seed ${report.seed}, ${report.model}, ${settings.join(", ")}
  ${tokens} tokens in ${seconds.toFixed(2)} s (${startSeconds.toFixed(2)} s of it starting services), \
${decodeSteps} decode steps${drafts}, ${Math.round((1000 * decodeSteps) / Math.max(1, decodeMs))} a second
`;
}

/** float32 came over the wire: 0.9 and not 0.8999999761581421. */
function rounded(value = 0): number {
  return Number(value.toPrecision(6));
}

function timingsOf(timings: ImageTimings | undefined): ReportedTimings {
  const generation = timings?.generation;
  return {
    tokenizeMs: tenths(generation?.tokenizeMs),
    queueMs: tenths(generation?.queueMs),
    prefillMs: tenths(generation?.prefillMs),
    decodeMs: tenths(generation?.decodeMs),
    decodeSteps: generation?.decodeSteps ?? 0,
    draftedTokens: generation?.draftedTokens ?? 0,
    acceptedTokens: generation?.acceptedTokens ?? 0,
    preemptions: generation?.preemptions ?? 0,
    detokenizeMs: tenths(timings?.detokenizeMs),
    encodeMs: tenths(timings?.encodeMs),
    previewMs: tenths(timings?.previewMs),
    totalMs: tenths(timings?.totalMs),
  };
}

function tenths(milliseconds = 0): number {
  return Math.round(milliseconds * 10) / 10;
}
