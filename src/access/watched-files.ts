/** Files that are read again when they change: keys and certificates. Polled, which every file system supports. */
import { statSync } from 'node:fs';

export const WATCH_MS = 1000;

/** Calls `onChange` after any of the files became another one. Returns what ends it. */
export function watchFiles(paths: readonly string[], onChange: () => void, everyMs = WATCH_MS): () => void {
  let before = stampOf(paths);
  const timer = setInterval(() => {
    const now = stampOf(paths);
    if (now === before) return;
    before = now;
    onChange();
  }, everyMs);
  timer.unref();
  return () => clearInterval(timer);
}

function stampOf(paths: readonly string[]): string {
  return paths.map(stampOfOne).join(' ');
}

/** A rename changes the inode, a write in place time and size; a file that is gone or cannot be reached is a change too. */
function stampOfOne(path: string): string {
  try {
    const { dev, ino, size, mtimeMs } = statSync(path);
    return `${dev}:${ino}:${size}:${mtimeMs}`;
  } catch (error) {
    return String((error as NodeJS.ErrnoException).code);
  }
}
