/** What the server says of itself while it is loaded: CPU, memory and event-loop delay from its /metrics. */
import type { Target } from './target.js';

export interface ServerSample {
  /** Milliseconds from the start of the run. */
  readonly at: number;
  /** Cores kept busy since the sample before; null in the first. */
  readonly cpu: number | null;
  readonly rssBytes: number;
  /** Event-loop delay since the sample before, milliseconds. */
  readonly loopP50Ms: number;
  readonly loopP99Ms: number;
  readonly loopMaxMs: number;
}

const METRICS = {
  cpuSeconds: 'process_cpu_seconds_total',
  rss: 'process_resident_memory_bytes',
  loopP50: 'belfry_event_loop_delay_seconds{quantile="0.5"}',
  loopP99: 'belfry_event_loop_delay_seconds{quantile="0.99"}',
  loopMax: 'belfry_event_loop_delay_seconds{quantile="1"}',
} as const;

const KEYS = new Map(Object.entries(METRICS).map(([key, series]) => [series as string, key as keyof typeof METRICS]));
const EVERY_MS = 1000;

/** Reads once a second until it is stopped. A server without such metrics gives no samples. */
export class ServerWatch {
  readonly samples: ServerSample[] = [];
  #before: { time: number; cpuSeconds: number } | undefined;
  #timer: NodeJS.Timeout | undefined;
  #reading: Promise<void> = Promise.resolve();

  constructor(
    private readonly target: Target,
    /** Milliseconds since the epoch of the start of the run. */
    private readonly zero: number,
  ) {}

  start(): void {
    this.#timer = setInterval(() => {
      this.#reading = this.#reading.then(() => this.#read());
    }, EVERY_MS);
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#reading;
  }

  async #read(): Promise<void> {
    const answer = await this.target.get('/metrics').catch(() => undefined); // overloaded, or another program: no sample
    if (answer?.status !== 200) return;
    const values = readGauges(answer.body.toString());
    if (values.cpuSeconds === undefined || values.rss === undefined) return;
    const time = Date.now();
    const before = this.#before;
    this.#before = { time, cpuSeconds: values.cpuSeconds };
    if (time < this.zero) return;
    this.samples.push({
      at: time - this.zero,
      cpu: before === undefined ? null : ((values.cpuSeconds - before.cpuSeconds) * 1000) / (time - before.time),
      rssBytes: values.rss,
      loopP50Ms: (values.loopP50 ?? 0) * 1000,
      loopP99Ms: (values.loopP99 ?? 0) * 1000,
      loopMaxMs: (values.loopMax ?? 0) * 1000,
    });
  }
}

/** The value of each of our metrics in a Prometheus text, where it is there. */
export function readGauges(text: string): Partial<Record<keyof typeof METRICS, number>> {
  const found: Partial<Record<keyof typeof METRICS, number>> = {};
  for (const line of text.split('\n')) {
    const at = line.lastIndexOf(' ');
    const key = KEYS.get(line.slice(0, at));
    const value = Number(line.slice(at + 1));
    if (key !== undefined && Number.isFinite(value)) found[key] = value;
  }
  return found;
}
