/** Runs in a worker thread: encodes the chunks of a job, writes them, and keeps the journal. */
import { parentPort, workerData } from 'node:worker_threads';
import { asBelfryError, type ErrorCode } from '../errors.js';
import type { Id } from '../types.js';
import { type OutputFormat, slotOver } from './chunk.js';
import { NpyOutput } from './npy-output.js';
import { packIds, type WrittenKind } from './packed-ids.js';
import { ParquetOutput } from './parquet-output.js';
import { type JobFacts, PartialOutput } from './partial-output.js';
import { explainSystemError } from './system-errors.js';

export interface OutputTask {
  readonly folder: string;
  readonly finals: readonly string[];
  readonly facts: JobFacts;
  readonly restart: boolean;
  readonly layout: 'long' | 'lists' | 'npy';
  readonly users: number;
  readonly k: number;
  readonly chunkUsers: number;
  /** Chunks pass through these in turn. */
  readonly slots: readonly SharedArrayBuffer[];
  readonly userKind: WrittenKind;
  /** The generation's ids file; undefined where ids are row numbers. */
  readonly itemIds: string | undefined;
  /** Rows of the generation, and ids of the changed items after them. */
  readonly itemRows: number;
  readonly changedIds: readonly Id[];
  readonly createdBy: string;
  /** Key-value metadata of a Parquet file. */
  readonly fileFacts: Readonly<Record<string, string>>;
}

/** Ids come in parts ahead of their chunk, so that no message takes long to copy. */
export type OutputRequest =
  | { readonly ids: readonly Id[] }
  | { readonly chunk: { readonly slot: number; readonly users: number } }
  | { readonly publish: true };

/** State of the output after a request (`ids` has no reply), and once at the start. */
export type OutputReply =
  | { readonly chunks: number; readonly hits: number; readonly bytes: number }
  | { readonly failure: { readonly code: ErrorCode; readonly message: string; readonly field?: string } };

const task = workerData as OutputTask;
const port = parentPort!;

async function formatOf(): Promise<OutputFormat> {
  const { layout, users, k } = task;
  const items = await packIds(task.itemIds, task.itemRows, task.changedIds);
  if (layout === 'npy') return new NpyOutput({ users, k, items });
  const { userKind, createdBy, fileFacts } = task;
  const itemRows = task.itemRows + task.changedIds.length;
  return new ParquetOutput({ layout, userKind, items, itemRows, createdBy, facts: fileFacts });
}

function reply(work: () => number | undefined): void {
  try {
    const bytes = work();
    port.postMessage({ chunks: output.chunks, hits: output.hits, bytes: bytes ?? output.bytes } satisfies OutputReply);
  } catch (error) {
    fail(error);
  }
}

function fail(error: unknown): void {
  const { code, message, field } = asBelfryError(explainSystemError(error));
  const failure = { code, message, ...(field === undefined ? {} : { field }) };
  port.postMessage({ failure } satisfies OutputReply);
}

let output: PartialOutput;
try {
  const format = await formatOf();
  output = PartialOutput.open({ ...task, format });
  const slots = task.slots.map((memory) => slotOver(memory, task.chunkUsers, task.k));
  let ids: Id[] = [];
  port.on('message', (request: OutputRequest) => {
    if ('ids' in request) ids = ids.concat(request.ids);
    else if ('publish' in request) reply(() => output.publish());
    else {
      const { slot, users } = request.chunk;
      const chunk = { users, k: task.k, ids, ...slots[slot]! };
      ids = [];
      reply(() => {
        output.append(format.encode(chunk));
        return undefined;
      });
    }
  });
  port.once('close', () => output.close());
  reply(() => undefined);
} catch (error) {
  fail(error);
}
