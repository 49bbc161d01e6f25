/** Where the workers of worker.ts begin: with the priority of their work before its code is read and compiled, which takes longer. */
import { workerData } from 'node:worker_threads';
import { BACKGROUND_NICE, lowerPriority } from '../resilience/priority.js';

export interface WorkerTask {
  readonly task: unknown;
  readonly isBackground: boolean;
  /** URL of the module that does it. */
  readonly module: string;
}

const { isBackground, module } = workerData as WorkerTask;
if (isBackground) lowerPriority(BACKGROUND_NICE);
await import(module);
