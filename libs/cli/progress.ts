import { SingleBar } from "cli-progress";

/** Shows a person how far the work is: a bar on a terminal, plain lines elsewhere. */
export interface Progress {
  /** Say something; on a terminal the bar stays below. */
  say(line: string): void;
  /** Begin counting. */
  begin(total: number): void;
  /** @param done of all that is counted. */
  advance(done: number): void;
  /** Leave the terminal in order. Calling it again does nothing. */
  end(): void;
}

/** Plain lines come at each quarter of the way. */
const LINES = 4;

/**
 * @param stream where to show it; whoever made it closes it.
 * @param unit what is counted.
 */
export function openProgress(stream: NodeJS.WriteStream, unit: "tokens" | "MB" | "prompts" | "requests"): Progress {
  return stream.isTTY ? barOn(stream, unit) : linesOn(stream, unit);
}

function barOn(stream: NodeJS.WriteStream, unit: string): Progress {
  const bar = new SingleBar({
    stream, format: `{bar} {value}/{total} ${unit}, {duration_formatted}`, hideCursor: true, clearOnComplete: true,
    barCompleteChar: "█", barIncompleteChar: "░", barsize: 32, gracefulExit: false,
  });
  return {
    say(line) {
      // Only a bar that is not drawn leaves the line to others.
      if (!bar.isActive) stream.write(`${line}\n`);
    },
    begin: (total) => bar.start(total, 0),
    advance: (done) => bar.update(done),
    end: () => {
      if (bar.isActive) bar.stop();
    },
  };
}

function linesOn(stream: NodeJS.WriteStream, unit: string): Progress {
  let whole = 0;
  let saidLines = 0;
  const say = (line: string) => void stream.write(`${line}\n`);
  return {
    say,
    begin(total) {
      whole = total;
      say(`0/${whole} ${unit}`);
    },
    advance(done) {
      const lines = Math.floor((LINES * done) / whole);
      if (lines > saidLines) say(`${done}/${whole} ${unit}`);
      saidLines = lines;
    },
    end() {},
  };
}
