import { SingleBar } from "cli-progress";

/** Shows a person how far the work is: a bar on a terminal, plain lines elsewhere. */
export interface Progress {
  /** Say something; on a terminal the bar stays below. */
  say(line: string): void;
  /** Begin counting image tokens. */
  begin(tokensTotal: number): void;
  /** @param tokensDone of all images together. */
  advance(tokensDone: number): void;
  /** Leave the terminal in order. Calling it again does nothing. */
  end(): void;
}

/** Plain lines come at each quarter of the way. */
const LINES = 4;

/** @param stream where to show it; whoever made it closes it. */
export function openProgress(stream: NodeJS.WriteStream): Progress {
  return stream.isTTY ? barOn(stream) : linesOn(stream);
}

function barOn(stream: NodeJS.WriteStream): Progress {
  const bar = new SingleBar({
    stream, format: "{bar} {value}/{total} tokens, {duration_formatted}", hideCursor: true, clearOnComplete: true,
    barCompleteChar: "█", barIncompleteChar: "░", barsize: 32, gracefulExit: false,
  });
  return {
    say(line) {
      // Only a bar that is not drawn leaves the line to others.
      if (!bar.isActive) stream.write(`${line}\n`);
    },
    begin: (tokensTotal) => bar.start(tokensTotal, 0),
    advance: (tokensDone) => bar.update(tokensDone),
    end: () => {
      if (bar.isActive) bar.stop();
    },
  };
}

function linesOn(stream: NodeJS.WriteStream): Progress {
  let total = 0;
  let saidLines = 0;
  const say = (line: string) => void stream.write(`${line}\n`);
  return {
    say,
    begin(tokensTotal) {
      total = tokensTotal;
      say(`0/${total} tokens`);
    },
    advance(tokensDone) {
      const lines = Math.floor((LINES * tokensDone) / total);
      if (lines > saidLines) say(`${tokensDone}/${total} tokens`);
      saidLines = lines;
    },
    end() {},
  };
}
