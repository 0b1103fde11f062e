/** One series of a Prometheus page. */
export interface Series {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** What a process shows at /metrics now. @param address `host:port`. */
export async function scrape(address: string): Promise<readonly Series[]> {
  const page = await (await fetch(`http://${address}/metrics`)).text();
  return Array.from(page.matchAll(/^([a-z_]+)(?:\{([^}]*)\})? (\S+)$/gm), ([, name, labels = "", value]) => ({
    name, value: Number(value), labels: Object.fromEntries(Array.from(labels.matchAll(/(\w+)="([^"]*)"/g), ([, key, text]) => [key, text])),
  }));
}

/** The sum of a metric's series that have these labels; 0 if there is none. */
export function sumOf(page: readonly Series[], name: string, labels: Readonly<Record<string, string>> = {}): number {
  const wanted = page.filter((series) => series.name === name && Object.entries(labels).every(([key, value]) => series.labels[key] === value));
  return wanted.reduce((sum, { value }) => sum + value, 0);
}
