import { readFileSync } from "node:fs";
import { errorFields, log } from "#libs/telemetry/log.js";

/** A value that may be another one at the next look. */
export interface Reloading<T> {
  readonly latest: T;
}

/** How often files are looked at: well within the hours that lie between a renewal and the old secret's end. */
export const RELOAD_MS = 60_000;

/**
 * What files hold, read again when they have changed: who renews them need not restart anything. Files that cannot be
 * read, or that hold what cannot be right, change nothing: the log says so, and what was last in order stays.
 */
export class ReloadingFiles<T> implements Reloading<T> {
  readonly #paths: readonly string[];
  readonly #parse: (files: readonly Buffer[]) => T;
  readonly #now: () => number;
  #files: readonly Buffer[];
  #latest: T;
  #lookedAt: number;

  /**
   * @param parse makes the value of the files' bytes; what it throws must not hold secrets. @param now a clock in milliseconds.
   * @throws what `parse` throws, or the file system.
   */
  constructor(paths: readonly string[], parse: (files: readonly Buffer[]) => T, now: () => number = () => performance.now()) {
    this.#paths = paths;
    this.#parse = parse;
    this.#now = now;
    this.#files = this.#read();
    this.#latest = parse(this.#files);
    this.#lookedAt = now();
  }

  /** Looks at the files when the last look was `RELOAD_MS` ago. */
  get latest(): T {
    if (this.#now() - this.#lookedAt >= RELOAD_MS) this.reload();
    return this.#latest;
  }

  /** Look at the files now. @returns whether the value is another one. */
  reload(): boolean {
    this.#lookedAt = this.#now();
    const fields = { files: this.#paths.join(", ") };
    try {
      const files = this.#read();
      if (files.every((file, i) => file.equals(this.#files[i]))) return false;
      this.#files = files;
      this.#latest = this.#parse(files);
    } catch (error) {
      log.error("files cannot be reloaded", { ...fields, ...errorFields(error) });
      return false;
    }
    log.info("files reloaded", fields);
    return true;
  }

  #read(): readonly Buffer[] {
    return this.#paths.map((path) => readFileSync(path));
  }
}
