/**
 * Joins concurrent requests into one model run along axis 0. Nothing waits on an idle model: a request leaves at once
 * while fewer than `runsMax` runs are under way, and requests gather only behind a run that is under way anyway.
 */
import { BelfryError } from '../errors.js';
import { tellBatch } from '../telemetry/batches.js';
import type { TensorData, TensorSpec, TensorValues } from '../types.js';

export type Feeds = Readonly<Record<string, TensorData>>;

export interface BatchRun {
  readonly outputs: Readonly<Record<string, TensorData>>;
  readonly queueMs: number;
  readonly runMs: number;
}

export interface MicroBatcherOptions {
  readonly name: string;
  readonly run: (feeds: Feeds) => Promise<BatchRun>;
  /** Declared inputs: a request that does not fit them is refused alone, before it could spoil a batch. */
  readonly inputs: readonly TensorSpec[];
  readonly rowsMax: number;
  /** Requests that may wait; one more is BELFRY_OVERLOADED. */
  readonly queueMax: number;
  readonly runsMax: number;
  readonly onBatch?: (rows: number) => void;
}

interface Waiting {
  readonly feeds: Feeds;
  readonly rows: number;
  readonly since: number;
  readonly until: number;
  readonly resolve: (run: BatchRun) => void;
  readonly reject: (error: unknown) => void;
}

export class MicroBatcher {
  readonly #options: MicroBatcherOptions;
  #queue: Waiting[] = [];
  #running = 0;
  #closed = false;
  readonly #onIdle: (() => void)[] = [];

  constructor(options: MicroBatcherOptions) {
    this.#options = options;
  }

  /**
   * `feeds` hold one or more rows each; the outputs come back for those rows only. What still waits at `until` (performance
   * time) is dropped with BELFRY_DEADLINE_EXCEEDED.
   */
  submit(feeds: Feeds, until = Infinity): Promise<BatchRun> {
    return new Promise((resolve, reject) => {
      const { name, queueMax } = this.#options;
      if (this.#closed) throw new BelfryError('BELFRY_CLOSED', `model ${name} is closed`);
      const rows = this.#checkedRows(feeds);
      if (this.#queue.length >= queueMax && this.#running >= this.#options.runsMax) {
        throw new BelfryError('BELFRY_OVERLOADED', `model ${name}: ${queueMax} requests are waiting`, {
          limit: queueMax,
        });
      }
      this.#queue.push({ feeds, rows, since: performance.now(), until, resolve, reject });
      this.#dispatch();
    });
  }

  get rowsMax(): number {
    return this.#options.rowsMax;
  }

  /** Refuses new requests; resolves when those already taken have been answered. */
  close(): Promise<void> {
    this.#closed = true;
    return new Promise((resolve) => {
      this.#onIdle.push(resolve);
      this.#settle();
    });
  }

  #settle(): void {
    if (this.#running > 0 || this.#queue.length > 0) return;
    for (const resolve of this.#onIdle.splice(0)) resolve();
  }

  #checkedRows(feeds: Feeds): number {
    const { name, inputs } = this.#options;
    let rows: number | undefined;
    for (const spec of inputs) {
      const tensor = feeds[spec.name];
      const shape = spec.shape;
      const fits =
        tensor !== undefined &&
        tensor.dims.length > 0 &&
        (spec.dtype === 'other' || tensor.dtype === spec.dtype) &&
        (shape === null ||
          (shape.length === tensor.dims.length &&
            tensor.dims.every((dim, i) => i === 0 || shape[i] === null || shape[i] === dim))) &&
        tensor.data.length === tensor.dims.reduce((a, b) => a * b, 1) &&
        (rows === undefined || rows === tensor.dims[0]);
      if (!fits) {
        const received =
          tensor === undefined
            ? 'nothing'
            : `${tensor.dtype} [${tensor.dims.join(', ')}] of ${tensor.data.length} values`;
        const expected = `${spec.dtype} [${[rows ?? 'rows', ...(shape ?? [null]).slice(1).map((dim) => dim ?? 'any')].join(', ')}]`;
        throw new BelfryError(
          'BELFRY_BINDING_MISMATCH',
          `model ${name}, input ${spec.name}: expected ${expected}, received ${received}`,
          { field: spec.name },
        );
      }
      rows = tensor.dims[0]!;
    }
    return rows ?? 0;
  }

  #dropLate(): void {
    const now = performance.now();
    if (!this.#queue.some(({ until }) => until <= now)) return;
    const late = this.#queue.filter(({ until }) => until <= now);
    this.#queue = this.#queue.filter(({ until }) => until > now);
    const { name } = this.#options;
    for (const { reject } of late)
      reject(new BelfryError('BELFRY_DEADLINE_EXCEEDED', `model ${name}: the deadline passed before it was run`));
  }

  #dispatch(): void {
    while (this.#running < this.#options.runsMax) {
      this.#dropLate();
      if (this.#queue.length === 0) return;
      const batch = this.#take();
      tellBatch(
        this.#options.name,
        batch.reduce((rows, one) => rows + one.rows, 0),
        batch[0]!.since,
      );
      this.#running++;
      void this.#runBatch(batch).finally(() => {
        this.#running--;
        this.#dispatch();
        this.#settle();
      });
    }
  }

  /** The oldest requests that fit together; inner dims left open by the model must agree. One request may exceed `rowsMax` alone. */
  #take(): Waiting[] {
    const first = this.#queue[0]!;
    let rows = 0;
    let count = 0;
    for (const waiting of this.#queue) {
      if (count > 0 && (rows + waiting.rows > this.#options.rowsMax || !sameInnerShape(first.feeds, waiting.feeds)))
        break;
      rows += waiting.rows;
      count++;
    }
    return this.#queue.splice(0, count);
  }

  async #runBatch(batch: readonly Waiting[]): Promise<void> {
    const started = performance.now();
    const rows = batch.reduce((sum, waiting) => sum + waiting.rows, 0);
    try {
      this.#options.onBatch?.(rows);
      const run = await this.#options.run(batch.length === 1 ? batch[0]!.feeds : joinFeeds(batch, rows));
      let at = 0;
      for (const waiting of batch) {
        const outputs =
          batch.length === 1 ? run.outputs : sliceOutputs(run.outputs, at, waiting.rows, rows, this.#options.name);
        waiting.resolve({ outputs, queueMs: started - waiting.since + run.queueMs, runMs: run.runMs });
        at += waiting.rows;
      }
    } catch (error) {
      // A promise that is settled already ignores this.
      for (const waiting of batch) waiting.reject(error);
    }
  }
}

function sameInnerShape(a: Feeds, b: Feeds): boolean {
  return Object.entries(a).every(([name, { dims }]) => {
    const other = b[name]?.dims;
    return other?.length === dims.length && dims.every((dim, i) => i === 0 || dim === other[i]);
  });
}

function joinFeeds(batch: readonly Waiting[], rows: number): Feeds {
  const joined: Record<string, TensorData> = {};
  for (const [name, { dtype, dims }] of Object.entries(batch[0]!.feeds)) {
    const parts = batch.map((waiting) => waiting.feeds[name]!.data);
    joined[name] = { dtype, dims: [rows, ...dims.slice(1)], data: concatValues(parts) };
  }
  return joined;
}

function concatValues(parts: readonly TensorValues[]): TensorValues {
  const first = parts[0]!;
  if (!ArrayBuffer.isView(first)) return (parts as (readonly string[])[]).flat();
  const Values = first.constructor as new (length: number) => Float32Array;
  const out = new Values(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part as Float32Array, at);
    at += part.length;
  }
  return out;
}

function sliceOutputs(
  outputs: BatchRun['outputs'],
  at: number,
  count: number,
  rows: number,
  name: string,
): BatchRun['outputs'] {
  const sliced: Record<string, TensorData> = {};
  for (const [key, { dtype, dims, data }] of Object.entries(outputs)) {
    // Without a row per request nobody can tell whose values these are.
    if (dims[0] !== rows) {
      throw new BelfryError(
        'BELFRY_MODEL_OUTPUT_INVALID',
        `model ${name}, output ${key}: expected ${rows} rows, received [${dims.join(', ')}]`,
      );
    }
    const width = data.length / rows;
    sliced[key] = { dtype, dims: [count, ...dims.slice(1)], data: data.slice(at * width, (at + count) * width) };
  }
  return sliced;
}
