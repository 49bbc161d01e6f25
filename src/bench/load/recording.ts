/**
 * What a run leaves: counts and latency histograms by window of time. Windows keep the memory of an hour as small as
 * that of a second, and merge exactly: over workers, over the run, over the time of a swap.
 */
import { build, decodeFromCompressedBase64, encodeIntoCompressedBase64, type Histogram } from 'hdr-histogram-js';

/** Microseconds to ten minutes at three digits: any value is off by less than 0.1 %. */
export function newHistogram(): Histogram {
  return build({
    lowestDiscernibleValue: 1,
    highestTrackableValue: 600_000_000,
    numberOfSignificantValueDigits: 3,
    bitBucketSize: 32,
    useWebAssembly: false,
  });
}

export function recordMs(histogram: Histogram, ms: number): void {
  histogram.recordValue(Math.min(600_000_000, Math.max(1, Math.round(ms * 1000))));
}

/** Milliseconds; null where nothing was recorded. */
export function percentileMs(histogram: Histogram, percentile: number): number | null {
  return histogram.totalCount === 0 ? null : histogram.getValueAtPercentile(percentile) / 1000;
}

/** Requests belong to the window in which they were due; only `completed` counts by the time of the answer. */
export interface Window {
  offered: number;
  /** Answers that came in this window, of any status and whenever they were asked for. */
  completed: number;
  /** Answered with status 2xx. */
  ok: number;
  /** 2xx before the deadline. */
  inDeadline: number;
  /** By code: that of the answer (`BELFRY_OVERLOADED`, `http_500`), or of the network (`ECONNRESET`, `timeout`). */
  errors: Record<string, number>;
  /** Answers by reason; one answer may have several. */
  degraded: Record<string, number>;
  /** 2xx answers with at least one reason. */
  degradedAnswers: number;
  /** From due to answered, of 2xx and of requests without an answer (the time they were waited for); microseconds. */
  latency: Histogram;
}

export function newWindow(): Window {
  return {
    offered: 0,
    completed: 0,
    ok: 0,
    inDeadline: 0,
    errors: {},
    degraded: {},
    degradedAnswers: 0,
    latency: newHistogram(),
  };
}

export function addCount(counts: Record<string, number>, key: string, by = 1): void {
  counts[key] = (counts[key] ?? 0) + by;
}

export function errorCount({ errors }: Window): number {
  return Object.values(errors).reduce((sum, count) => sum + count, 0);
}

export function mergeWindows(windows: readonly (Window | undefined)[]): Window {
  const sum = newWindow();
  for (const one of windows) {
    if (one === undefined) continue;
    sum.offered += one.offered;
    sum.completed += one.completed;
    sum.ok += one.ok;
    sum.inDeadline += one.inDeadline;
    sum.degradedAnswers += one.degradedAnswers;
    for (const [code, count] of Object.entries(one.errors)) addCount(sum.errors, code, count);
    for (const [reason, count] of Object.entries(one.degraded)) addCount(sum.degraded, reason, count);
    sum.latency.add(one.latency);
  }
  return sum;
}

/** An answer kept for the recall: the request it belongs to, and its text. */
export interface KeptAnswer {
  readonly request: number;
  readonly text: string;
}

/** Of one worker, or of all. */
export interface Recording {
  readonly windows: Window[];
  /** From due to when the loop came to it, without a wait for a connection: what the generator itself was late by; microseconds. */
  readonly lag: Histogram;
  /** From sent to answered, of 2xx: what a closed loop would have seen; microseconds. */
  readonly service: Histogram;
  /** From sent to answered, of those refused with 503 or 504; microseconds. */
  readonly refused: Histogram;
  readonly kept: readonly KeptAnswer[];
  /** Requests that waited for a free connection. */
  readonly waited: number;
  readonly connections: number;
  /** Answers by generation. */
  readonly generations: Readonly<Record<string, number>>;
  /** Bytes of answer bodies. */
  readonly bytes: number;
  /** Share of the time that the loop had something to do; polls that found nothing are left out. */
  readonly busy: number;
}

type Packed<T> = { [K in keyof T]: T[K] extends Histogram ? string : T[K] };
/** As it crosses from a worker thread. */
export type PackedRecording = Omit<Packed<Recording>, 'windows'> & { readonly windows: readonly Packed<Window>[] };

export function packRecording(recording: Recording): PackedRecording {
  return {
    ...recording,
    lag: encodeIntoCompressedBase64(recording.lag),
    service: encodeIntoCompressedBase64(recording.service),
    refused: encodeIntoCompressedBase64(recording.refused),
    windows: Array.from(recording.windows, (one = newWindow()) => ({
      ...one,
      latency: encodeIntoCompressedBase64(one.latency),
    })),
  };
}

export function unpackRecording(packed: PackedRecording): Recording {
  const decode = (text: string) => decodeFromCompressedBase64(text, 32, false);
  return {
    ...packed,
    lag: decode(packed.lag),
    service: decode(packed.service),
    refused: decode(packed.refused),
    windows: packed.windows.map((one) => ({ ...one, latency: decode(one.latency) })),
  };
}

export function mergeRecordings(all: readonly Recording[]): Recording {
  const lag = newHistogram();
  const service = newHistogram();
  const refused = newHistogram();
  const generations: Record<string, number> = {};
  for (const one of all) {
    lag.add(one.lag);
    service.add(one.service);
    refused.add(one.refused);
    for (const [id, count] of Object.entries(one.generations)) addCount(generations, id, count);
  }
  const length = Math.max(0, ...all.map(({ windows }) => windows.length));
  const sum = (of: (one: Recording) => number) => all.reduce((total, one) => total + of(one), 0);
  return {
    windows: Array.from({ length }, (_, i) => mergeWindows(all.map(({ windows }) => windows[i]))),
    lag,
    service,
    refused,
    kept: all.flatMap(({ kept }) => kept),
    waited: sum((one) => one.waited),
    connections: sum((one) => one.connections),
    generations,
    bytes: sum((one) => one.bytes),
    busy: Math.max(0, ...all.map(({ busy }) => busy)),
  };
}
