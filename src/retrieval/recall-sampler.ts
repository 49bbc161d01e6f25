/**
 * Recall of what is really asked, measured live: now and then a search is answered once more, exactly, on capacity that
 * nobody uses. One at a time, never two within `gapMs`, and never while requests keep the process busy.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { Searcher } from '../ann/searcher.js';
import type { Generation } from '../generation/generation.js';
import type { GenerationStore } from '../generation/store.js';
import type { SearchMetrics } from '../telemetry/search-metrics.js';
import type { ItemView, ViewFound } from '../upserts/item-view.js';
import type { Query } from './query-vector.js';
import type { Selected } from './search-stage.js';

export interface SamplerOptions {
  /** Of the searches. */
  readonly share: number;
  readonly gapMs: number;
  readonly random?: () => number;
}

/** A search as it was answered. */
export interface Sampled {
  readonly view: ItemView;
  readonly query: Query;
  readonly selected: Selected;
  readonly depth: number;
  readonly hits: ViewFound;
}

interface Sample {
  readonly recall: number;
  readonly path: string;
  /** What the calibration promised; undefined for a search of all rows. */
  readonly expected: number | undefined;
}

export interface RecallFacts {
  readonly samples: number;
  /** Mean recall, counted by score: what ties with the last exact hit counts as found. */
  readonly recall: number;
  /** 95 % interval of the mean. */
  readonly low: number;
  readonly high: number;
  /** Samples with a lower recall than the calibration promised on average. */
  readonly below_expected: number;
  /** Mean of what the calibration promised. */
  readonly expected?: number;
}

export interface RecallReport {
  readonly share: number;
  readonly gap_ms: number;
  readonly generation: string | null;
  /** Of the last samples of this generation; absent before the first. */
  readonly all?: RecallFacts;
  readonly by_path: Readonly<Record<string, RecallFacts>>;
  /** Samples without a measurement. */
  readonly dropped: number;
}

/** Samples that are remembered. */
const KEPT = 2000;
/** The event loop is idle when it was busy for less than this share of the last look. */
const IDLE_SHARE = 0.5;
const LOOK_MS = 50;
const LOOKS = 40;

export class RecallSampler {
  private samples: Sample[] = [];
  private generation: Generation | undefined;
  private dropped = 0;
  private nextAt = 0;
  private running: Promise<void> | undefined;
  private isClosed = false;
  /** With a queue of its own: exact scans must not stand before those of requests. */
  private searcher: { readonly of: Generation; readonly exact: Searcher } | undefined;

  constructor(
    private readonly options: SamplerOptions,
    private readonly store: GenerationStore,
    private readonly metrics: SearchMetrics,
  ) {}

  /** Whether the search of this moment is to be a sample; asked once for each. */
  get isDue(): boolean {
    const { share, random = Math.random } = this.options;
    return random() < share && this.running === undefined && !this.isClosed && performance.now() >= this.nextAt;
  }

  /** Off the path of the request, which goes on at once. An exact search tells nothing. */
  take(sampled: Sampled): void {
    if (sampled.hits.plan.effort.mode === 'exact') return;
    this.nextAt = performance.now() + this.options.gapMs;
    // The items stay open until the sample is done: a lease and a hold of its own.
    const view = sampled.view.retain();
    this.running = this.store
      .use(() => this.measure(sampled))
      .catch(() => this.drop('failed'))
      .finally(() => {
        view.release();
        this.running = undefined;
      });
  }

  report(): RecallReport {
    const paths = [...new Set(this.samples.map(({ path }) => path))].sort();
    return {
      share: this.options.share,
      gap_ms: this.options.gapMs,
      generation: this.generation?.id ?? null,
      ...(this.samples.length === 0 ? {} : { all: factsOf(this.samples) }),
      by_path: Object.fromEntries(
        paths.map((path) => [path, factsOf(this.samples.filter((one) => one.path === path))]),
      ),
      dropped: this.dropped,
    };
  }

  /** Resolves when the sample that runs is done; no other is taken. */
  async close(): Promise<void> {
    this.isClosed = true;
    await this.running;
  }

  private async measure({ view, query, selected, depth, hits }: Sampled): Promise<void> {
    const { generation } = view;
    if (!(await this.isIdleSoon())) return this.drop('busy');
    if (this.store.peek() !== generation) return this.drop('changed');
    if (this.searcher?.of !== generation) this.searcher = { of: generation, exact: new Searcher(generation.index) };
    const { filter, exclude } = selected;
    const truth = await view.search(this.searcher.exact, {
      query: query.vector,
      k: depth,
      exact: true,
      filter,
      exclude,
    });
    const recall = recallByScore(hits.scores, truth.scores);
    this.keep(generation, { recall, path: hits.path, expected: hits.plan.expectedRecall });
  }

  private keep(generation: Generation, sample: Sample): void {
    if (generation !== this.generation) this.samples = [];
    this.generation = generation;
    this.samples.push(sample);
    if (this.samples.length > KEPT) this.samples.shift();
    this.metrics.recallSamples.inc({ result: 'measured' });
    this.metrics.recallSampled.observe({ path: sample.path }, sample.recall);
    this.metrics.showRecall(mean(this.samples.map(({ recall }) => recall)));
  }

  private drop(result: 'busy' | 'changed' | 'failed'): void {
    this.dropped++;
    this.metrics.recallSamples.inc({ result });
  }

  private async isIdleSoon(): Promise<boolean> {
    for (let look = 0; look < LOOKS && !this.isClosed; look++) {
      const before = performance.eventLoopUtilization();
      await sleep(LOOK_MS, undefined, { ref: false });
      if (performance.eventLoopUtilization(before).utilization < IDLE_SHARE) return true;
    }
    return false;
  }
}

/** The share of the exact hits that a search with these scores found; 1 where there is nothing to find. */
export function recallByScore(found: Float32Array, exact: Float32Array): number {
  if (exact.length === 0) return 1;
  const least = exact.at(-1)!;
  let count = 0;
  for (const score of found) if (score >= least) count++;
  return Math.min(count, exact.length) / exact.length;
}

function factsOf(samples: readonly Sample[]): RecallFacts {
  const recalls = samples.map(({ recall }) => recall);
  const promised = samples.flatMap(({ expected }) => (expected === undefined ? [] : [expected]));
  const centre = mean(recalls);
  const variance = recalls.reduce((sum, one) => sum + (one - centre) ** 2, 0) / Math.max(1, recalls.length - 1);
  const half = 1.96 * Math.sqrt(variance / recalls.length);
  return {
    samples: recalls.length,
    recall: centre,
    low: Math.max(0, centre - half),
    high: Math.min(1, centre + half),
    below_expected: samples.filter(({ recall, expected = 0 }) => recall < expected).length,
    ...(promised.length === 0 ? {} : { expected: mean(promised) }),
  };
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, one) => sum + one, 0) / values.length;
}
