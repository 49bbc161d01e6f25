/** The worker's side of worker.ts: takes the task, answers with what the work returns or with why it failed. */
import { parentPort, workerData } from 'node:worker_threads';
import { asBelfryError, type ErrorCode, type ErrorDetails } from '../errors.js';
import type { WorkerTask } from './worker-entry.js';

export type WorkerReply<Reply> =
  | { readonly reply: Reply }
  | { readonly failure: { readonly code: ErrorCode; readonly message: string; readonly details: ErrorDetails } };

/** `transfer` names the buffers of a reply that are handed over and not copied. */
export async function answerTask<Task, Reply>(
  work: (task: Task) => Promise<Reply> | Reply,
  transfer: (reply: Reply) => ArrayBuffer[] = () => [],
): Promise<void> {
  const { task } = workerData as WorkerTask;
  try {
    const reply = await work(task as Task);
    send({ reply }, transfer(reply));
  } catch (error) {
    const { code, message, field, limit } = asBelfryError(error);
    const details = { ...(field === undefined ? {} : { field }), ...(limit === undefined ? {} : { limit }) };
    send<Reply>({ failure: { code, message, details } }, []);
  }
}

/** Answers each later question of withWorker's `ask`, until the worker is ended. */
export function answerQuestions<Question, Answer>(work: (question: Question) => Answer): void {
  parentPort!.on('message', (question: Question) => send({ reply: work(question) }, []));
}

function send<Reply>(message: WorkerReply<Reply>, buffers: ArrayBuffer[]): void {
  parentPort!.postMessage(message, buffers);
}
