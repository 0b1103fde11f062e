import { execFile, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, readFile, rename, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { invariant, notFound } from "#libs/errors/errors.js";
import { TINY_FOLDER } from "#test/fixtures/tiny-bundle.js";

/** What the reference scripts import. */
export const PYTHON_PACKAGES = ["torch", "transformers", "tokenizers", "safetensors"] as const;

/** Where large files that can be made again are kept between runs: `$XDG_CACHE_HOME/tessera`, or `~/.cache/tessera`. */
export function cacheFolder(): string {
  return join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "tessera");
}

/** A Python that has `packages`: `TESSERA_PYTHON`, else `python3` or `python` on PATH. @returns undefined if there is none. */
export async function findPython(packages: readonly string[]): Promise<string | undefined> {
  const named = process.env.TESSERA_PYTHON;
  for (const python of named ? [named] : ["python3", "python"]) {
    const works = await promisify(execFile)(python, ["-c", `import ${packages.join(", ")}`]).then(() => true, () => false);
    if (works) return python;
  }
  return undefined;
}

/**
 * The folder that `script` of test/fixtures writes, made on the first call and kept in the cache until the script changes.
 * @param name what the folder is called, with the script's digest behind it.
 * @throws not-found without Python and its packages; internal if the script fails.
 */
export async function referenceFolder(
  name: string, script: string, args: readonly string[], options: { readonly signal?: AbortSignal } = {},
): Promise<string> {
  const path = join(dirname(TINY_FOLDER), script);
  const digest = createHash("sha256").update(await readFile(path)).digest("hex").slice(0, 8);
  const folder = join(cacheFolder(), `${name}-${digest}`);
  if (existsSync(folder)) return folder;
  const python = await findPython(PYTHON_PACKAGES);
  if (python === undefined) {
    throw notFound(`the reference needs Python with ${PYTHON_PACKAGES.join(", ")}: put it on PATH, or name it in TESSERA_PYTHON`);
  }
  const draft = `${folder}.part`;
  await rm(draft, { recursive: true, force: true });
  await mkdir(dirname(draft), { recursive: true });
  process.stderr.write(`${script} writes ${folder}; this happens once\n`);
  try {
    const child = spawn(python, [path, draft, ...args], { stdio: ["ignore", "inherit", "inherit"], ...options });
    const [code] = (await once(child, "exit")) as [number | null];
    if (code !== 0) throw invariant(`${script} ended with code ${code}`);
    await rename(draft, folder);
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
  return folder;
}
