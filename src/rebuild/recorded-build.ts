/** A build in its own process whose end is written into the history of the data folder. */
import { asBelfryError, type BelfryError } from '../errors.js';
import type { GateResult } from '../generation/gates/gate.js';
import { BuildClock } from './build-clock.js';
import { type BuildCallbacks, type BuildOutcome, type BuildTask, runBuilder } from './builder-process.js';
import { BuildHistory, type BuildRecord, type Trigger } from './history.js';

export interface RecordedBuild {
  readonly record: BuildRecord;
  /** The record is in the history now. */
  readonly isRecorded: boolean;
  readonly outcome?: BuildOutcome;
  /** Why nothing was published. */
  readonly error?: BelfryError;
}

export interface RecordedBuildCallbacks extends BuildCallbacks {
  readonly onClock?: (clock: BuildClock) => void;
  /** The history could not be written; the build is what it is. */
  readonly onUnrecorded?: (error: BelfryError) => void;
}

/** Never rejects: an error is a result. That another process builds is no build, and not recorded. */
export async function recordedBuild(
  task: BuildTask,
  trigger: Trigger,
  callbacks: RecordedBuildCallbacks = {},
): Promise<RecordedBuild> {
  const history = new BuildHistory(task.data);
  const before = (await history.read()).findLast(({ result }) => result === 'published');
  const clock = new BuildClock(before?.stages);
  callbacks.onClock?.(clock);
  const started = new Date().toISOString();
  const gates: GateResult[] = [];
  const { outcome, error } = await run(task, {
    ...callbacks,
    onGate: (gate) => {
      gates.push(gate);
      callbacks.onGate?.(gate);
    },
    onProgress: (progress) => {
      clock.update(progress);
      callbacks.onProgress?.(progress);
    },
  });
  const record: BuildRecord = {
    started,
    seconds: clock.seconds,
    trigger,
    result: resultOf(outcome, error),
    ...(outcome === undefined
      ? { code: error!.code, message: error!.message, ...(gates.length === 0 ? {} : { gates: gates.map(mutable) }) }
      : { generation: outcome.id, peak_memory_bytes: outcome.peakMemoryBytes }),
    stages: clock.stages,
  };
  let isRecorded = false;
  if (error?.code !== 'BELFRY_LOCKED') {
    try {
      isRecorded = await history.add(record);
    } catch (cause) {
      callbacks.onUnrecorded?.(asBelfryError(cause, 'BELFRY_FILE_UNREADABLE'));
    }
  }
  return { record, isRecorded, ...(outcome === undefined ? { error: error! } : { outcome }) };
}

async function run(
  task: BuildTask,
  callbacks: BuildCallbacks,
): Promise<{ outcome?: BuildOutcome; error?: BelfryError }> {
  try {
    return { outcome: await runBuilder(task, callbacks) };
  } catch (error) {
    return { error: asBelfryError(error) };
  }
}

function resultOf(outcome: BuildOutcome | undefined, error: BelfryError | undefined): BuildRecord['result'] {
  if (outcome !== undefined) return outcome.reused ? 'unchanged' : 'published';
  return error!.code === 'BELFRY_STOPPED' ? 'cancelled' : 'failed';
}

function mutable(gate: GateResult): NonNullable<BuildRecord['gates']>[number] {
  return { ...gate, measurements: gate.measurements.map((one) => ({ ...one })) };
}
