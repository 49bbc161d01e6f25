import { getPriority, setPriority } from 'node:os';

/** Of loads and builds: behind the threads that answer (requests 0, models 5, searches 10), ahead of idle work. */
export const BACKGROUND_NICE = 15;

/** Of the calling thread and of those that it starts. On Linux "this process" means this thread; elsewhere it would slow down everything. */
export function lowerPriority(nice: number): void {
  if (process.platform !== 'linux') return;
  try {
    setPriority(0, Math.max(nice, getPriority(0)));
  } catch {
    // Some sandboxes forbid it: the work is done all the same, at the common priority.
  }
}
