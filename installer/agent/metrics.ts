/**
 * Counters, gauges and histograms in Prometheus' text exposition format 0.0.4. Written here instead
 * of taken from a library because the node agent must stay small on each of thousands of nodes.
 */

/** Label names and values of one time series. */
export type Labels = Readonly<Record<string, string>>;

interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: "counter" | "gauge" | "histogram";
  samples(): Iterable<string>;
}

/** A set of metrics that is exposed together. */
export class MetricsRegistry {
  readonly #families: Family[] = [];

  /** Adds a counter; `name` ends in `_total`. */
  counter(name: string, help: string): Counter {
    return this.#add(new Counter(name, help));
  }

  /** Adds a gauge whose value is set, or read at each scrape when `read` is given. */
  gauge(name: string, help: string, read?: () => GaugeValue): Gauge {
    return this.#add(new Gauge(name, help, read));
  }

  /** Adds a histogram; `bounds` are the upper bounds of its buckets, ascending, without infinity. */
  histogram(name: string, help: string, bounds: readonly number[]): Histogram {
    return this.#add(new Histogram(name, help, bounds));
  }

  /** All metrics as text, ready to be sent with the content type `text/plain; version=0.0.4`. */
  expose(): string {
    return this.#families.map((family) =>
      [
        `# HELP ${family.name} ${family.help.replaceAll("\\", "\\\\").replaceAll("\n", "\\n")}`,
        `# TYPE ${family.name} ${family.type}`,
        ...family.samples(),
      ].join("\n") + "\n"
    ).join("");
  }

  #add<T extends Family>(family: T): T {
    if (!/^[a-z][a-z0-9_]*$/.test(family.name)) {
      throw new TypeError(`Metric name "${family.name}" is not in snake case`);
    }
    if (this.#families.some(({ name }) => name === family.name)) {
      throw new TypeError(`Metric "${family.name}" is declared twice`);
    }
    this.#families.push(family);
    return family;
  }
}

/** A number that only grows, by label set. */
export class Counter implements Family {
  readonly type = "counter";
  readonly #values = new Map<string, number>();

  constructor(readonly name: string, readonly help: string) {}

  /** Adds `amount` (not negative) to the series with these labels. */
  increment(labels: Labels = {}, amount = 1): void {
    const key = labelText(labels);
    this.#values.set(key, (this.#values.get(key) ?? 0) + amount);
  }

  /** The current value, 0 when it was never incremented. */
  value(labels: Labels = {}): number {
    return this.#values.get(labelText(labels)) ?? 0;
  }

  *samples(): Iterable<string> {
    for (const [labels, value] of this.#values) yield `${this.name}${labels} ${value}`;
    // An unlabelled zero lets alerts tell "never happened" from "not there".
    if (this.#values.size === 0) yield `${this.name} 0`;
  }
}

/** What a gauge shows: a number, several of them by their labels, or nothing. */
export type GaugeValue = number | readonly (readonly [Labels, number])[] | undefined;

/** A number that goes up and down. */
export class Gauge implements Family {
  readonly type = "gauge";
  #value: number | undefined;

  constructor(
    readonly name: string,
    readonly help: string,
    private readonly read?: () => GaugeValue,
  ) {}

  /** Sets the value. */
  set(value: number): void {
    this.#value = value;
  }

  *samples(): Iterable<string> {
    const value = this.read === undefined ? this.#value : this.read();
    if (value === undefined) return;
    if (typeof value === "number") return yield `${this.name} ${value}`;
    for (const [labels, number] of value) yield `${this.name}${labelText(labels)} ${number}`;
  }
}

/** A distribution of observed values, by label set. */
export class Histogram implements Family {
  readonly type = "histogram";
  readonly #series = new Map<string, { labels: Labels; counts: number[]; sum: number }>();

  constructor(
    readonly name: string,
    readonly help: string,
    private readonly bounds: readonly number[],
  ) {}

  /** Records one value, in the unit that the metric's name ends with. */
  observe(value: number, labels: Labels = {}): void {
    const key = labelText(labels);
    let series = this.#series.get(key);
    if (series === undefined) {
      series = { labels, counts: new Array<number>(this.bounds.length + 1).fill(0), sum: 0 };
      this.#series.set(key, series);
    }
    const bucket = this.bounds.findIndex((bound) => value <= bound);
    const index = bucket < 0 ? this.bounds.length : bucket;
    series.counts[index] = (series.counts[index] ?? 0) + 1;
    series.sum += value;
  }

  *samples(): Iterable<string> {
    for (const { labels, counts, sum } of this.#series.values()) {
      let total = 0;
      for (const [index, count] of counts.entries()) {
        total += count;
        const le = this.bounds[index] === undefined ? "+Inf" : String(this.bounds[index]);
        yield `${this.name}_bucket${labelText({ ...labels, le })} ${total}`;
      }
      yield `${this.name}_sum${labelText(labels)} ${sum}`;
      yield `${this.name}_count${labelText(labels)} ${total}`;
    }
  }
}

/** `{a="b"}` with names sorted and values escaped, or nothing without labels. */
function labelText(labels: Labels): string {
  const names = Object.keys(labels).sort();
  if (names.length === 0) return "";
  const parts = names.map((name) => {
    const value = labels[name] ?? "";
    const escaped = value.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll('"', '\\"');
    return `${name}="${escaped}"`;
  });
  return `{${parts.join(",")}}`;
}
