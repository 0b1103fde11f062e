import { parseArgs, type ParseArgsConfig } from "node:util";
import { AppError, cancelled } from "#libs/errors/errors.js";

/** What a command ends with; scripts rely on it. */
export const EXIT_CODES = { ok: 0, failed: 1, usage: 2, interrupted: 130, terminated: 143 } as const;

/** How long a command waits for a service: a person who has had enough presses Ctrl-C. */
export const PATIENCE_MS = 86_400_000;

/** npm passes a terminal's Ctrl-C on although the terminal has sent it already: within this time two count as one. */
const SAME_PRESS_MS = 500;

/**
 * Be a command: run its work and end the process with one of `EXIT_CODES`; does not return. SIGINT and SIGTERM abort
 * the work, which then cleans up and throws, or returns if that is how it ends; a second one ends the process at once.
 * @param work its errors are shown on stderr: `invalid-request` as a mistake in the command line, others as failures.
 */
export async function runCommand(work: (options: { readonly signal: AbortSignal }) => Promise<void>): Promise<never> {
  const interrupt = new AbortController();
  let signalCode: number = EXIT_CODES.interrupted;
  let firstAt = 0;
  const onSignal = (code: number) => {
    if (interrupt.signal.aborted) {
      if (Date.now() - firstAt > SAME_PRESS_MS) process.exit(code);
      return;
    }
    [signalCode, firstAt] = [code, Date.now()];
    interrupt.abort(cancelled());
  };
  process.on("SIGINT", () => onSignal(EXIT_CODES.interrupted));
  process.on("SIGTERM", () => onSignal(EXIT_CODES.terminated));
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    // Whoever reads our lines, such as `head`, has had enough.
    if (error.code === "EPIPE") process.exit(EXIT_CODES.ok);
    process.stderr.write(`error: cannot write to stdout: ${error.message}\n`);
    process.exit(EXIT_CODES.failed);
  });
  process.stderr.on("error", () => {});
  try {
    await work({ signal: interrupt.signal });
  } catch (thrown) {
    if (interrupt.signal.aborted) process.exit(signalCode);
    const error = AppError.from(thrown);
    process.stderr.write(`${failureText(error)}\n`);
    process.exit(error.kind === "invalid-request" ? EXIT_CODES.usage : EXIT_CODES.failed);
  }
  process.exit(EXIT_CODES.ok);
}

/**
 * The flags and words of a command line.
 * @throws AppError `invalid-request` for a flag that does not exist, lacks its value, or has one it does not take.
 */
export function parseFlags<T extends ParseArgsConfig>(config: T): ReturnType<typeof parseArgs<T>> {
  try {
    return parseArgs(config);
  } catch (error) {
    throw new AppError("invalid-request", (error as Error).message, { cause: error });
  }
}

/** What a person reads about an error: what is wrong and what to do about it. */
export function failureText(error: AppError): string {
  return `error: ${error.message}${adviceFor(error)}`;
}

function adviceFor({ kind, retryDelayMs = 1000, errorId }: AppError): string {
  if (kind === "invalid-request") return "\nRun it with --help to see what it takes.";
  if (kind === "overloaded") return `\nTry again in ${(retryDelayMs / 1000).toFixed(1)} s.`;
  if (kind === "internal" && errorId !== undefined) return "\nThe service's log tells more under this id.";
  return "";
}
