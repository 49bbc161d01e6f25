/** Priority of single threads, where the system has such a thing. */
import { setPriority } from 'node:os';

/** Behind the threads that answer, ahead of idle work. */
const BACKGROUND_NICE = 10;

/** Of the calling thread. On Linux "this process" means the calling thread; elsewhere it would slow down everything. */
export function lowerThreadPriority(): void {
  if (process.platform !== 'linux') return;
  try {
    setPriority(0, BACKGROUND_NICE);
  } catch {
    // Some sandboxes forbid it: the work is done all the same, at the common priority.
  }
}
