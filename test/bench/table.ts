/** The middle of some numbers, the mean of the two middle ones if they are even in number. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  return (sorted[Math.ceil(middle) - 1] + sorted[Math.floor(middle)]) / 2;
}

/** The value below which a share of some numbers lies. @param share 0 .. 1. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? NaN;
}

/** Rows with their columns in line: words to the left, numbers to the right. The first row is the heading. */
export function table(rows: readonly (readonly (string | number)[])[]): string {
  const cells = rows.map((row) => row.map((cell) => (typeof cell === "number" ? cell.toFixed(1) : cell)));
  const widths = cells[0].map((_, column) => Math.max(...cells.map((row) => row[column].length)));
  const line = (row: readonly string[]) => row
    .map((cell, column) => (column === 0 ? cell.padEnd(widths[column]) : cell.padStart(widths[column]))).join("  ");
  return `${cells.map(line).join("\n")}\n`;
}

/** The fields of a report with numbers short enough to read. */
export function rounded<T extends object>(report: T): T {
  return JSON.parse(JSON.stringify(report, (_, value: unknown) => (
    typeof value === "number" ? Number(value.toPrecision(4)) : value
  ))) as T;
}
