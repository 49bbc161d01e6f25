/**
 * Batches that are put together deep inside (scans of the index, runs of models), told to whoever listens. A channel, so
 * that nobody hands a listener down through every layer; without one it costs a look at a flag.
 */
import { channel } from 'node:diagnostics_channel';

export interface Batch {
  /** `scan`, `pool` (threads of the core), or the name of a model. */
  readonly queue: string;
  /** Queries or rows that share the run; 0 where nothing is shared. */
  readonly size: number;
  /** How long the first of them waited. */
  readonly waitMs: number;
}

const batches = channel('belfry:batch');

export function tellBatch(queue: string, size: number, since: number): void {
  if (batches.hasSubscribers) batches.publish({ queue, size, waitMs: performance.now() - since } satisfies Batch);
}

/** A wait for something that is not shared. */
export function tellWait(queue: string, waitMs: number): void {
  if (batches.hasSubscribers) batches.publish({ queue, size: 0, waitMs } satisfies Batch);
}

/** Of the whole process. Returns what ends it. */
export function onBatch(listener: (batch: Batch) => void): () => void {
  const hear = (message: unknown): void => listener(message as Batch);
  batches.subscribe(hear);
  return () => void batches.unsubscribe(hear);
}
