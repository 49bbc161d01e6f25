/**
 * Scans that wait together: a scan reads every item's codes, and reading them once for many queries costs little more than
 * for one (GloVe, 336k x 100: 8 times the queries per second in batches of 32 and more). While one scan runs, those that come in
 * wait and then share the next; an idle index answers at once, so nobody waits for company.
 */
import { BelfryError } from '../errors.js';
import { tellBatch } from '../telemetry/batches.js';
import type { NativeFilter, NativeHits, NativeIndex, NativeSearch } from './addon.js';

/** One query: what NativeSearch says of each field. */
export interface Scan {
  /** dims values. */
  readonly query: Float32Array;
  readonly k: number;
  readonly mode: 'codes' | 'exact';
  readonly rescore?: number | undefined;
  readonly exclude: Uint32Array;
  readonly visible?: NativeFilter | undefined;
  /** Performance time after which nobody waits for it: it is dropped, unless it runs already. */
  readonly until?: number | undefined;
}

interface Waiting {
  readonly scan: Scan;
  readonly since: number;
  readonly resolve: (hits: NativeHits) => void;
  readonly reject: (error: unknown) => void;
}

const BATCH_MAX = 256;

export class GatheredScans {
  private waiting: Waiting[] = [];
  private running = 0;

  constructor(private readonly index: NativeIndex) {}

  /** Queries that wait for the scan that runs now. */
  get queued(): number {
    return this.waiting.length;
  }

  /** Hits of this query alone. Errors: BELFRY_DEADLINE_EXCEEDED; those of NativeIndex.search, which all that share a scan get. */
  search(scan: Scan): Promise<NativeHits> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ scan, since: performance.now(), resolve, reject });
      if (this.running === 0) void this.next();
    });
  }

  private async next(): Promise<void> {
    this.running++;
    for (this.dropLate(); this.waiting.length > 0; this.dropLate()) {
      const batch = this.takeBatch();
      tellBatch('scan', batch.length, batch[0]!.since);
      try {
        const hits = await this.index.search(together(batch.map(({ scan }) => scan)));
        const { k } = batch[0]!.scan;
        for (const [at, { resolve }] of batch.entries()) resolve(one(hits, at, k));
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
    }
    this.running--;
  }

  private dropLate(): void {
    const now = performance.now();
    const isLate = ({ scan: { until = Infinity } }: Waiting) => until <= now;
    if (!this.waiting.some(isLate)) return;
    const late = this.waiting.filter(isLate);
    this.waiting = this.waiting.filter((one) => !isLate(one));
    for (const { reject } of late)
      reject(new BelfryError('BELFRY_DEADLINE_EXCEEDED', 'the deadline passed while the search waited for another'));
  }

  /** The scans like the first one, in the order of their arrival; others stay for the next turn. */
  private takeBatch(): Waiting[] {
    const { k, mode, rescore, visible } = this.waiting[0]!.scan;
    const batch: Waiting[] = [];
    const others: Waiting[] = [];
    for (const one of this.waiting) {
      const { scan } = one;
      const fits = scan.k === k && scan.mode === mode && scan.rescore === rescore && scan.visible === visible;
      if (fits && batch.length < BATCH_MAX) batch.push(one);
      else others.push(one);
    }
    this.waiting = others;
    return batch;
  }
}

function together(scans: readonly Scan[]): NativeSearch {
  const { k, mode, rescore, query, exclude, visible } = scans[0]!;
  const shared = {
    k,
    mode,
    ...(rescore === undefined ? {} : { rescore }),
    ...(visible === undefined ? {} : { visible }),
  };
  if (scans.length === 1) return { ...shared, queries: query, ...(exclude.length === 0 ? {} : { exclude }) };
  const queries = new Float32Array(scans.length * query.length);
  const offsets = new Uint32Array(scans.length + 1);
  for (const [at, scan] of scans.entries()) {
    queries.set(scan.query, at * query.length);
    offsets[at + 1] = offsets[at]! + scan.exclude.length;
  }
  const rows = new Uint32Array(offsets[scans.length]!);
  for (const [at, scan] of scans.entries()) rows.set(scan.exclude, offsets[at]!);
  return { ...shared, queries, ...(rows.length === 0 ? {} : { excludeEach: { offsets, rows } }) };
}

function one(hits: NativeHits, at: number, k: number): NativeHits {
  return {
    ...hits,
    rows: hits.rows.subarray(at * k, (at + 1) * k),
    scores: hits.scores.subarray(at * k, (at + 1) * k),
    counts: hits.counts.subarray(at, at + 1),
  };
}
