import { createHash } from "node:crypto";
import { createReadStream, existsSync, rmSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readdir, readFile, rename, stat, writeFile } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { pipeline } from "node:stream/promises";
import { fileURLToPath } from "node:url";
import { invalidRequest, mismatch, notFound, unsupported } from "#libs/errors/errors.js";
import { parseManifest } from "./parse-manifest.js";
import type { FileEntry, Manifest, TokenManifest } from "./manifest.js";
import type { StageManifest } from "./stage-manifest.js";

const MANIFEST_FILE = "model.json";
const READ_BYTES = 2 ** 20;

/** A model folder whose manifest has been checked. */
export interface Bundle<M extends Manifest = Manifest> {
  readonly folder: string;
  readonly manifest: M;
  /** SHA-256 of the bytes of `model.json`, 64 lower-case hexadecimal digits. */
  readonly digest: string;
  /** The absolute path of one of the bundle's files, e.g. `tokenizer.json`. @throws mismatch if the manifest does not list it. */
  path(file: string): string;
}

/** A bundle whose model makes discrete tokens. */
export type TokenBundle = Bundle<TokenManifest>;

/** A bundle whose model makes continuous token maps, stage by stage. */
export type StageBundle = Bundle<StageManifest>;

/** The bundle that comes with the package. */
export const DEFAULT_BUNDLE: string = join(packageRoot(), "libs", "models", "emoji-96");

/**
 * Open a model folder.
 * @param options.verify read every file through and compare its SHA-256; false compares sizes only. Default true.
 * @throws not-found without `model.json`; mismatch naming the field or the file that is wrong.
 */
export async function openBundle(
  folder: string, options: { readonly verify?: boolean; readonly signal?: AbortSignal } = {},
): Promise<Bundle> {
  const root = resolve(folder);
  const manifestPath = join(root, MANIFEST_FILE);
  if (!existsSync(manifestPath)) throw notFound(`no model bundle: ${manifestPath} does not exist`);
  const bytes = await readFile(manifestPath);
  const manifest = parseManifest(parseJson(bytes.toString("utf8")));
  const unlisted = Object.keys(manifest.files).map((file) => `${file}.data`)
    .find((file) => !Object.hasOwn(manifest.files, file) && existsSync(join(root, file)));
  // ONNX Runtime would read it for the graph that it lies beside.
  if (unlisted !== undefined) throw mismatch(`${MANIFEST_FILE} does not list ${unlisted}`);
  for (const [file, entry] of Object.entries(manifest.files)) {
    await checkFile(join(root, file), entry, options.verify ?? true, options.signal);
  }
  const path = (file: string): string => {
    if (!Object.hasOwn(manifest.files, file)) throw mismatch(`${MANIFEST_FILE} does not list ${file}`);
    return join(root, file);
  };
  return { folder: root, manifest, digest: createHash("sha256").update(bytes).digest("hex"), path };
}

/** Whether a bundle's model makes continuous token maps, stage by stage. */
export function hasStages(bundle: Bundle): bundle is StageBundle {
  return bundle.manifest.family === "ecar";
}

/** Whether a bundle's model makes discrete tokens. */
export function hasTokens(bundle: Bundle): bundle is TokenBundle {
  return bundle.manifest.family === "simplear";
}

/** Open a model folder as `openBundle` does. @throws also unsupported if its model does not make discrete tokens. */
export async function openTokenBundle(folder: string, options: Parameters<typeof openBundle>[1] = {}): Promise<TokenBundle> {
  const bundle = await openBundle(folder, options);
  if (!hasTokens(bundle)) throw unsupported(`${bundle.manifest.name} makes continuous tokens, discrete ones are needed here`);
  return bundle;
}

/**
 * Write a new model folder, whole or not at all: it is filled under a hidden name beside its place and moved there once
 * every file is hashed. An error, an aborted signal or the end of the process removes what was begun; a process that is
 * killed leaves the hidden folder and nothing under the bundle's name.
 * @param fill writes the files into the folder it is given and tells all of `model.json` but `files`, which is measured
 *   here. Equal contents give equal bytes.
 * @throws invalid-request if `folder` exists or cannot be made; mismatch if the manifest is not valid.
 */
export async function writeBundle<M extends Manifest>(
  folder: string, fill: (draft: string) => Promise<Omit<M, "files">>, options: { readonly signal?: AbortSignal } = {},
): Promise<Bundle<M>> {
  const target = resolve(folder);
  if (existsSync(target)) throw invalidRequest("out", "a folder that does not exist yet", target);
  const parent = dirname(target);
  const made = mkdir(parent, { recursive: true }).then(() => mkdtemp(join(parent, `.${basename(target)}-`)));
  const draft = await made.catch((cause: NodeJS.ErrnoException) => {
    throw invalidRequest("out", `in a folder that can be written (${cause.code})`, target);
  });
  const discard = (): void => rmSync(draft, { recursive: true, force: true });
  process.once("exit", discard);
  try {
    const manifest = await fill(draft);
    const complete = parseManifest({ ...manifest, files: await measureFiles(draft, options.signal) });
    await writeFile(join(draft, MANIFEST_FILE), `${JSON.stringify(complete, null, 2)}\n`);
    await chmod(draft, 0o755); // mkdtemp makes a folder for its owner alone.
    options.signal?.throwIfAborted();
    await rename(draft, target);
  } finally {
    process.off("exit", discard);
    discard();
  }
  return (await openBundle(target, { verify: false })) as Bundle<M>;
}

async function measureFiles(folder: string, signal: AbortSignal | undefined): Promise<Readonly<Record<string, FileEntry>>> {
  const entries: Record<string, FileEntry> = {};
  for (const name of (await readdir(folder)).sort()) {
    const path = join(folder, name);
    entries[name] = { sha256: await hashFile(path, signal), bytes: (await stat(path)).size };
  }
  return entries;
}

async function checkFile(path: string, entry: FileEntry, verify: boolean, signal: AbortSignal | undefined): Promise<void> {
  const name = basename(path);
  const size = await stat(path).then((info) => info.size, () => undefined);
  if (size === undefined) throw mismatch(`the bundle lacks ${name}`);
  if (size !== entry.bytes) throw mismatch(`${name} must have ${entry.bytes} bytes, got ${size}`);
  if (!verify) return;
  const sha256 = await hashFile(path, signal);
  if (sha256 !== entry.sha256) throw mismatch(`${name} must have SHA-256 ${entry.sha256}, got ${sha256}`);
}

/** Read through in pieces, so that a file may be larger than memory. */
async function hashFile(path: string, signal: AbortSignal | undefined): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path, { highWaterMark: READ_BYTES }), hash, { signal });
  return hash.digest("hex");
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw mismatch(`${MANIFEST_FILE} is not valid JSON`);
  }
}

/** The same whether this runs from the sources or from what they are compiled to. */
function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, "package.json"))) folder = dirname(folder);
  return folder;
}
