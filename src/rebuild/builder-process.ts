/** A build in a process of its own, seen from the process that wants it: start, follow, cancel, and say how it ended. */
import { type ChildProcess, fork } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { MlflowSettings } from '../config/mlflow.js';
import type { ObjectStoreSettings } from '../config/schema.js';
import { BelfryError, type ErrorCode } from '../errors.js';
import type { BuildOptions, BuildProgress } from '../generation/build.js';
import type { BuildPlan } from '../generation/build-plan.js';
import { DataFolder } from '../generation/data-folder.js';
import type { GateResult } from '../generation/gates/gate.js';
import { memoryKills } from '../generation/memory.js';

/** What crosses to the builder: every option of a build that is data. */
export interface BuildTask extends Omit<
  BuildOptions,
  'onProgress' | 'onPlan' | 'onGate' | 'onBadGeneration' | 'onWarning' | 'signal' | 'source' | 'brought'
> {
  /** Build even when the newest generation was made from this very export. */
  readonly force?: boolean;
  /** How an object store is reached, where the task names one. */
  readonly objectStore?: ObjectStoreSettings;
  /** `models` is a prefix of copies of generations: the latest of them is pulled, nothing is built. */
  readonly pull?: boolean;
  /** `s3://bucket/prefix` that gets a copy of what was published. */
  readonly pushTo?: string;
  /** How the MLflow registry is reached that registry.yaml may name. */
  readonly mlflow?: MlflowSettings | undefined;
}

interface FlatError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly field?: string;
  readonly limit?: number | string;
}

export type BuilderMessage =
  | { readonly kind: 'plan'; readonly plan: BuildPlan }
  | { readonly kind: 'progress'; readonly progress: BuildProgress }
  | { readonly kind: 'gate'; readonly gate: GateResult }
  | { readonly kind: 'warning'; readonly error: FlatError }
  | { readonly kind: 'done'; readonly id: string; readonly reused: boolean; readonly peakMemoryBytes: number }
  | { readonly kind: 'failed'; readonly error: FlatError };

export interface BuildOutcome {
  /** The generation that CURRENT names now. */
  readonly id: string;
  /** True when the newest generation was made from this very export. */
  readonly reused: boolean;
  /** Largest resident memory of the builder. */
  readonly peakMemoryBytes: number;
}

export interface BuildCallbacks extends Pick<
  BuildOptions,
  'onProgress' | 'onPlan' | 'onGate' | 'onWarning' | 'signal'
> {
  /** The builder runs. */
  readonly onStart?: (pid: number) => void;
}

/** A builder that was told to stop and is inside a long native step may take so long; then it is killed. */
const CANCEL_MS = 10_000;
/** After its result a builder has nothing left to do. */
const EXIT_MS = 2_000;
const STDERR_KEPT = 4096;

/**
 * Builds and publishes in a child process. Errors: those of buildGeneration; BELFRY_STOPPED when `signal` ended it;
 * BELFRY_BUILD_OUT_OF_MEMORY, BELFRY_BUILD_DIED when the process ended without a result. However it ends, no temporary
 * folder stays behind.
 */
export async function runBuilder(task: BuildTask, callbacks: BuildCallbacks = {}): Promise<BuildOutcome> {
  callbacks.signal?.throwIfAborted();
  const killsBefore = memoryKills();
  // Options of this process (a debugger's port, a test runner's loader) are none of the builder's.
  const child = fork(builderFile(), [], { execArgv: [], stdio: ['ignore', 'ignore', 'pipe', 'ipc'] });
  const { result, stage, exit, stderr } = await followToTheEnd(child, task, callbacks);
  if (result?.kind === 'done') {
    const { id, reused, peakMemoryBytes } = result;
    return { id, reused, peakMemoryBytes };
  }
  if (result !== undefined) {
    if (result.error.code === 'BELFRY_STOPPED') callbacks.signal?.throwIfAborted(); // its reason says who stopped it
    throw unflat(result.error);
  }
  await (await DataFolder.open(task.data)).cleanUp();
  callbacks.signal?.throwIfAborted();
  throw explainDeath(exit, stage, stderr, memoryKills() > killsBefore);
}

interface Ending {
  readonly result: Extract<BuilderMessage, { kind: 'done' | 'failed' }> | undefined;
  /** Where it was when it ended. */
  readonly stage: string;
  /** `SIGKILL`, `exit code 134`, or why it could not be started. */
  readonly exit: string;
  readonly stderr: string;
}

function followToTheEnd(child: ChildProcess, task: BuildTask, callbacks: BuildCallbacks): Promise<Ending> {
  return new Promise((resolve) => {
    let result: Ending['result'];
    let stage = 'start';
    let stderr = '';
    let deadline: NodeJS.Timeout | undefined;
    const killIn = (ms: number): void => {
      deadline ??= setTimeout(() => child.kill('SIGKILL'), ms);
    };
    const cancel = (): void => {
      if (child.connected) child.send('cancel', () => undefined); // it may have ended meanwhile
      killIn(CANCEL_MS);
    };
    const end = (exit: string): void => {
      clearTimeout(deadline);
      callbacks.signal?.removeEventListener('abort', cancel);
      resolve({ result, stage, exit, stderr });
    };
    callbacks.signal?.addEventListener('abort', cancel, { once: true });
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      stderr = (stderr + text).slice(-STDERR_KEPT);
    });
    child.on('message', (message: BuilderMessage) => {
      if (message.kind === 'plan') callbacks.onPlan?.(message.plan);
      else if (message.kind === 'gate') callbacks.onGate?.(message.gate);
      else if (message.kind === 'warning') callbacks.onWarning?.(unflat(message.error));
      else if (message.kind === 'progress') {
        stage = message.progress.stage;
        callbacks.onProgress?.(message.progress);
      } else {
        result = message;
        killIn(EXIT_MS);
      }
    });
    child.once('spawn', () => {
      callbacks.onStart?.(child.pid!);
      child.send(task, () => undefined); // when it cannot be sent the process has ended, which is told below
    });
    child.once('error', (error) => {
      if (child.pid === undefined) end(error.message);
    });
    // Not `exit`: messages and the last words of the process may still be on their way.
    child.once('close', (code, signal) => end(signal ?? `exit code ${code}`));
  });
}

function unflat({ code, message, ...details }: FlatError): BelfryError {
  return new BelfryError(code, message, details);
}

function explainDeath(exit: string, stage: string, stderr: string, wasKilledForMemory: boolean): BelfryError {
  const lines = stderr.trim().split('\n');
  const telling = lines.filter((line) => /error|fatal|terminate|abort/i.test(line));
  const words = (telling.length > 0 ? telling : lines).slice(-2).join(' | ');
  if (wasKilledForMemory || /heap out of memory|bad_alloc|Cannot allocate memory/.test(stderr)) {
    return new BelfryError(
      'BELFRY_BUILD_OUT_OF_MEMORY',
      `the builder process ran out of memory at "${stage}" (${exit}); nothing was published: raise the memory limit, or build on another machine`,
    );
  }
  return new BelfryError(
    'BELFRY_BUILD_DIED',
    `the builder process ended with ${exit} at "${stage}"${words === '' ? '' : ` (${words})`}; nothing was published. ` +
      `After SIGKILL, look whether the kernel's log names it as out of memory; else build again`,
  );
}

/** A process needs JavaScript: beside the compiled module, or in dist/ when a test runner executes the sources. */
function builderFile(): string {
  const found = ['./builder.js', '../../dist/rebuild/builder.js']
    .map((path) => fileURLToPath(new URL(path, import.meta.url)))
    .find((path) => existsSync(path));
  if (found === undefined) throw new BelfryError('BELFRY_INTERNAL', 'the builder is not compiled; run `npm run build`');
  return found;
}
