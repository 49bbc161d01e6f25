/** Runs in a worker thread: reads the ids of a generation or of a models folder. */
import type { IdMapData } from '../ann/ids.js';
import { readIds } from './read-ids.js';
import { answerTask } from './worker-task.js';

export interface IdsTask {
  readonly path: string;
}

export type IdsReply = IdMapData;

await answerTask(async ({ path }: IdsTask): Promise<IdsReply> => (await readIds(path)).data);
