import { appendFile, readFile, writeFile } from "node:fs/promises";

/** What was measured, kept in a file line by line as it comes, so that a run that is cut short loses only its last piece. */
export class Journal {
  readonly path: string;
  readonly #kept: Map<string, unknown>;

  /**
   * Begin the file at `path` anew, or go on with what an earlier run of the same `subject` left there.
   * @param subject everything that changes the results, as text.
   */
  static async open(path: string, subject: string, { resume }: { readonly resume: boolean }): Promise<Journal> {
    const text = resume ? await readFile(path, "utf8").catch(() => "") : "";
    // What lies behind the last end of a line was cut short.
    const whole = text.slice(0, text.lastIndexOf("\n") + 1).split("\n").slice(0, -1);
    const entries = whole.map((line) => JSON.parse(line) as { readonly name: string; readonly result: unknown });
    const isSame = entries[0]?.name === "subject" && entries[0].result === subject;
    const kept = isSame ? entries : [{ name: "subject", result: subject }];
    await writeFile(path, kept.map((entry) => `${JSON.stringify(entry)}\n`).join(""));
    return new Journal(path, kept);
  }

  private constructor(path: string, entries: readonly { readonly name: string; readonly result: unknown }[]) {
    this.path = path;
    this.#kept = new Map(entries.map(({ name, result }) => [name, result]));
  }

  /** The result of `name` that the file holds, or else what `measure` finds, which it holds from then on. */
  async once<T>(name: string, measure: () => Promise<T>): Promise<T> {
    if (this.#kept.has(name)) return this.#kept.get(name) as T;
    process.stderr.write(`${name}\n`);
    const result = await measure();
    await appendFile(this.path, `${JSON.stringify({ name, result })}\n`);
    return result;
  }
}
