/** The generation that a command works with in this process: made first where the export, or `latest`, is newer. */
import { dataFolder } from '../config/load.js';
import type { Settings } from '../config/schema.js';
import type { BuildOptions } from '../generation/build.js';
import type { PublishedGeneration } from '../generation/data-folder.js';
import { makeGeneration } from '../rebuild/make-generation.js';
import { buildTask } from './build-task.js';
import type { ProgressLine } from './terminal.js';

/** Errors: those of makeGeneration. */
export async function currentGeneration(
  settings: Settings,
  progress: ProgressLine,
  callbacks: Pick<BuildOptions, 'onPlan' | 'signal'> = {},
): Promise<PublishedGeneration> {
  const task = buildTask(settings, dataFolder(settings), 'alone');
  const { published } = await makeGeneration(task, {
    ...callbacks,
    onProgress: progress.update,
    onWarning: ({ message }) => process.stderr.write(`${message}\n`),
  });
  progress.finish();
  return published;
}
