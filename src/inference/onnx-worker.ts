/**
 * Runs in a Piscina worker thread: the only code that touches ONNX Runtime, whose `run()` blocks its thread whatever
 * its promise says. One worker holds one session of one model. It is never terminated while it runs: that aborts the
 * whole process (docs of the house rule: onnx-model.ts).
 */
import { workerData } from 'node:worker_threads';
import type { InferenceSession as Session, Tensor as AnyTensor } from 'onnxruntime-node';
import { move, transferableSymbol, valueSymbol } from 'piscina';
import { lowerPriority } from '../resilience/priority.js';
import type { TensorData, TensorDtype } from '../types.js';
import { buffersOf } from './buffers.js';

export interface WorkerSetup {
  readonly source: string | Uint8Array;
  readonly intraOpThreads: number;
}

export interface RunTask {
  readonly feeds: Readonly<Record<string, TensorData>>;
  readonly fetches: readonly string[] | null;
  /** The feeds were handed over: their buffers go back with the reply. */
  readonly isMoved: boolean;
}

/** Failures of the model are values, so that a rejected task can only mean that the worker itself died. */
export type LoadReply =
  { readonly inputs: readonly string[]; readonly outputs: readonly string[] } | { readonly failure: string };

export type RunReply =
  | {
      readonly outputs: Readonly<Record<string, TensorData>>;
      readonly startedNs: bigint;
      readonly runMs: number;
      readonly returned: readonly ArrayBuffer[];
    }
  | { readonly failure: string };

/**
 * Where all cores are busy, the thread of requests goes first: 16 clients re-ranking on two cores saw a delay of its event loop of 18 ms
 * at nice 0, of 4 to 9 at 5, and not less at 10.
 */
lowerPriority(5);

// Only now: reading it takes longer than all else that a worker does to start.
const { InferenceSession, Tensor } = await import('onnxruntime-node');

let session: Promise<Session> | undefined;

function load(): Promise<Session> {
  const { source, intraOpThreads } = workerData as WorkerSetup;
  const options: Session.SessionOptions = {
    executionProviders: ['cpu'],
    intraOpNumThreads: intraOpThreads,
    interOpNumThreads: 1,
    executionMode: 'sequential',
    graphOptimizationLevel: 'all',
    // Failures come back as errors; its own lines on stderr would be no part of our log. 4 is fatal only.
    logSeverityLevel: 4,
    // Spinning threads would take the cores from the search kernels between two runs.
    extra: { session: { intra_op: { allow_spinning: '0' }, inter_op: { allow_spinning: '0' } } },
  };
  session ??=
    typeof source === 'string' ? InferenceSession.create(source, options) : InferenceSession.create(source, options);
  return session;
}

export async function loadModel(): Promise<LoadReply> {
  try {
    const { inputNames, outputNames } = await load();
    return { inputs: inputNames, outputs: outputNames };
  } catch (error) {
    return { failure: messageOf(error) };
  }
}

export async function runModel(task: RunTask): Promise<RunReply> {
  const startedNs = process.hrtime.bigint();
  try {
    const model = await load();
    const feeds: Record<string, AnyTensor> = {};
    for (const [name, { dtype, data, dims }] of Object.entries(task.feeds)) {
      feeds[name] = new Tensor(dtype, data as AnyTensor.DataTypeMap[typeof dtype], dims);
    }
    const results = task.fetches === null ? await model.run(feeds) : await model.run(feeds, [...task.fetches]);
    const outputs: Record<string, TensorData> = {};
    for (const [name, tensor] of Object.entries(results)) {
      const data = tensor.data as TensorData['data'];
      outputs[name] = { dtype: tensor.type as TensorDtype, dims: tensor.dims, data };
    }
    const runMs = Number(process.hrtime.bigint() - startedNs) / 1e6;
    const returned = task.isMoved ? buffersOf(task.feeds) : [];
    return movedReply({ outputs, startedNs, runMs, returned }, [...buffersOf(outputs), ...returned]);
  } catch (error) {
    return { failure: messageOf(error) };
  }
}

/** Outputs leave by transfer. Piscina takes the buffers from this pair of symbols and posts the value. */
function movedReply(reply: RunReply, buffers: ArrayBuffer[]): RunReply {
  const movable = { [transferableSymbol]: buffers, [valueSymbol]: reply };
  return move(movable as unknown as ArrayBuffer) as unknown as RunReply;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
