import { METRICS, prometheusName, type Metric } from "#libs/telemetry/names.js";

/** Labels that a scrape puts on every series. */
const SCRAPE_LABELS: readonly string[] = ["instance", "job", "le", "namespace", "pod", "service"];

/** Functions, operators and grouping words of PromQL that the queries use. */
const WORDS = /^(sum|avg|max|rate|by|histogram_quantile)$/;

/** By the names of their series: a histogram has three. */
const SERIES: ReadonlyMap<string, Metric> = new Map(Object.values(METRICS).flatMap((metric: Metric) => {
  const suffixes = metric.type === "histogram" ? ["_bucket", "_sum", "_count"] : [""];
  return suffixes.map((suffix) => [prometheusName(metric) + suffix, metric] as const);
}));

/** What one query asks for. */
export interface Query {
  readonly metrics: readonly Metric[];
  /** What is wrong: unknown metrics or labels, rates of what is no count. */
  readonly faults: readonly string[];
}

/** Read a PromQL query as far as its names go. */
export function readQuery(text: string): Query {
  const bare = text.replace(/\[[^\]]*\]/g, "").replace(/"[^"]*"/g, '""');
  const labels = [...bare.matchAll(/\bby \(([^)]*)\)|\{([^}]*)\}/g)].flatMap(([, by, filter]) =>
    by?.split(/,\s*/) ?? filter.split(",").map((term) => /^\w+/.exec(term.trim())?.[0] ?? term));
  const outside = bare.replace(/\bby \([^)]*\)|\{[^}]*\}/g, "");
  const names = (outside.match(/[a-zA-Z_]\w*/g) ?? []).filter((word) => !WORDS.test(word));
  const metrics = names.flatMap((name) => SERIES.get(name) ?? []);
  const known = new Set([...SCRAPE_LABELS, ...metrics.flatMap(({ attributes = [] }) => attributes.map((name) => name.replaceAll(".", "_")))]);
  const rated = [...bare.matchAll(/\brate\((\w+)/g)].map(([, name]) => name);
  return {
    metrics,
    faults: [
      ...names.filter((name) => !SERIES.has(name)).map((name) => `no service exports ${name}`),
      ...labels.filter((label) => !known.has(label)).map((label) => `no series here has the label ${label}`),
      ...rated.filter((name) => SERIES.get(name)?.type === "gauge").map((name) => `${name} is no count`),
    ],
  };
}
