/**
 * A graph over item vectors, and what effort on it gives what recall: built with a sample of the users, calibrated on users
 * that the build has not seen.
 */
import { rm } from 'node:fs/promises';
import { BelfryError } from '../errors.js';
import type { Metric } from '../types.js';
import { type KernelName, loadAddon, type NativeMatrix } from './addon.js';
import type { GraphBuildOptions } from './addon-graph.js';
import { calibrate } from './calibrate.js';
import type { Calibration } from './planner.js';
import { readRows } from './read-rows.js';

export interface GraphBuild {
  readonly items: NativeMatrix;
  readonly users?: NativeMatrix | undefined;
  readonly metric: Metric;
  /** The graph file to write. */
  readonly out: string;
  /** Names the item vectors (the SHA-256 of their file): the graph opens with these and no others. */
  readonly vectors: string;
  /** Rows that nobody may be answered with, and users that are no users. */
  readonly skippedItems?: readonly number[];
  readonly skippedUsers?: readonly number[];
  readonly kernel?: KernelName | undefined;
  readonly threads?: number | undefined;
  readonly seed?: number;
  readonly onProgress?: ((stage: 'graph' | 'calibrate', done: number, total: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface BuiltGraph {
  readonly degree: number;
  readonly entries: number;
  readonly queryEdges: number;
  /** Users whose answers became edges. */
  readonly trainingUsers: number;
  readonly buildMs: number;
  /** Upper bound of what the build allocated. */
  readonly memoryBytes: number;
  readonly calibration: Calibration;
}

export const TRAINING_USERS = 32_768;
const CALIBRATION_QUERIES = 2000;
/** Users on whom neither the graph nor the calibration has been fitted: what the tuned search is measured on. */
const GATE_QUERIES = 500;
/** One in so many held-out users is a gate's. */
const GATE_EVERY = (CALIBRATION_QUERIES + GATE_QUERIES) / GATE_QUERIES;
/** At most this share of the users is held out for both. */
const HELD_OUT_SHARE = 0.2;
const POLL_MS = 100;

/** Errors: those of NativeGraphBuild.run; the reason of `signal` when it stops the build. A build that ends early leaves no file. */
export async function buildGraph(options: GraphBuild): Promise<BuiltGraph> {
  const { items, users, metric, out: path, vectors, signal } = options;
  const addon = loadAddon();
  const machine: Machine = {
    ...(options.kernel === undefined ? {} : { kernel: options.kernel }),
    ...(options.threads === undefined ? {} : { threads: options.threads }),
  };
  const { training, heldOut } = splitUsers(users?.rows ?? 0, options.skippedUsers ?? []);
  signal?.throwIfAborted();
  const build = addon.prepareGraph({
    matrix: items,
    metric,
    out: path,
    vectors,
    ...machine,
    ...(options.seed === undefined ? {} : { seed: options.seed }),
    ...(users === undefined || training.length === 0 ? {} : { users, userRows: training }),
  });
  const cancel = (): void => build.cancel();
  signal?.addEventListener('abort', cancel, { once: true });
  options.onProgress?.('graph', 0, items.rows); // a small one may be whole before the first look at it
  const watch = setInterval(() => {
    const { done, total } = build.progress();
    if (total > 0) options.onProgress?.('graph', done, total);
  }, POLL_MS);
  const built = await build.run().finally(() => {
    clearInterval(watch);
    signal?.removeEventListener('abort', cancel);
    signal?.throwIfAborted(); // its reason says more than that the build was cancelled
  });

  try {
    const calibration = await calibrateGraph(options, machine, heldOut);
    return {
      degree: built.degree,
      entries: built.entries,
      queryEdges: built.queryEdges,
      trainingUsers: training.length,
      buildMs: Math.round(built.runMs),
      memoryBytes: build.memoryBytes,
      calibration,
    };
  } catch (error) {
    await rm(path, { force: true }); // nobody would know how to search it
    throw error;
  }
}

type Machine = Pick<GraphBuildOptions, 'kernel' | 'threads'>;

async function calibrateGraph(
  { items, users, metric, out: path, vectors, skippedItems = [], onProgress, signal }: GraphBuild,
  machine: Machine,
  heldOut: Uint32Array,
): Promise<Calibration> {
  const index = await loadAddon().createIndex({ matrix: items, metric, ...machine, graph: { path, vectors } });
  try {
    const isUsers = users !== undefined && heldOut.length >= CALIBRATION_QUERIES / 10;
    const [from, rows] = isUsers ? [users, calibrationUsers(heldOut)] : [items, standIns(items.rows, skippedItems)];
    return await calibrate({
      index,
      queries: await readRows(from, rows),
      source: isUsers ? 'users' : 'items',
      exclude: Uint32Array.from(skippedItems),
      onProgress: (done, total) => onProgress?.('calibrate', done, total),
      signal,
    });
  } finally {
    index.close();
  }
}

/** Users to learn edges from, and users to measure on: disjoint, both spread over the file. */
export function splitUsers(
  count: number,
  skipped: readonly number[],
): { readonly training: Uint32Array; readonly heldOut: Uint32Array } {
  const left = count - skipped.length;
  const heldOut = spread(count, skipped, Math.min(CALIBRATION_QUERIES + GATE_QUERIES, Math.floor(left * HELD_OUT_SHARE)));
  const wanted = Math.min(TRAINING_USERS, left - heldOut.length);
  return { training: spread(count, [...skipped, ...heldOut], wanted), heldOut };
}

function calibrationUsers(heldOut: Uint32Array): Uint32Array {
  return heldOut.filter((_, position) => position % GATE_EVERY !== 0);
}

/** Of the held-out users: those that the calibration has not seen either. */
export function gateUsers(heldOut: Uint32Array): Uint32Array {
  return heldOut.filter((_, position) => position % GATE_EVERY === 0);
}

/** Items that stand in for users. */
export function standIns(count: number, skipped: readonly number[]): Uint32Array {
  const left = count - skipped.length;
  if (left === 0)
    throw new BelfryError('BELFRY_EXPORT_INVALID', 'item vectors: every row was left out, so nothing can be served');
  return spread(count, skipped, Math.min(CALIBRATION_QUERIES, left));
}

/** `wanted` of `count` rows, evenly spaced, `without` some; no list of all rows is made, which would hold up the event loop. */
export function spread(count: number, without: readonly number[], wanted: number): Uint32Array {
  const gone = Uint32Array.from(without).sort();
  const left = count - gone.length;
  const taken = new Uint32Array(wanted);
  let passed = 0;
  for (let i = 0; i < wanted; i++) {
    const at = Math.floor(((i + 0.5) * left) / wanted); // among the rows that are left
    while (passed < gone.length && gone[passed]! <= at + passed) passed++;
    taken[i] = at + passed;
  }
  return taken;
}
