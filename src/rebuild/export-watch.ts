/**
 * Builds when a new export is whole. An export announces itself by a new `_SUCCESS` file or a changed `export.json`, at
 * the top of the models folder or in `embeddings/`; it is whole when the size and time of every file have held still for
 * a while. Polled: the kernel tells nothing of network file systems, and nothing of a folder that is renamed into place.
 */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

/** A look at an export. */
export interface ExportLook {
  /** What `_SUCCESS` is now (size and time); undefined without one. */
  readonly success?: string;
  /** Likewise of the announcing files together. */
  readonly marks: string;
  /** Likewise of all files. */
  readonly content: string;
}

export interface ExportWatchOptions {
  /** Undefined while there is no export to be seen. */
  readonly look: () => Promise<ExportLook | undefined>;
  /** How long everything must hold still. */
  readonly settleMs: number;
  readonly pollMs?: number;
  /** False when it could not be built now and is to be tried again. */
  readonly onSettled: () => Promise<boolean>;
  readonly onError?: (error: unknown) => void;
  /** Milliseconds, monotonic. */
  readonly now?: () => number;
}

const POLL_MS = 1_000;
const FOLDERS = ['', 'embeddings'];
const SUCCESS = '_SUCCESS';
const DESCRIPTION = 'export.json';

export class ExportWatch {
  private timer: NodeJS.Timeout | undefined;
  /** What was built, or was there at the beginning. */
  private built: ExportLook | undefined;
  private content: string | undefined;
  private since = 0;
  private isBusy = false;

  constructor(private readonly options: ExportWatchOptions) {}

  /** What is there now is known: the start of a server looks after it. */
  async start(): Promise<void> {
    try {
      this.built = await this.options.look();
    } catch (error) {
      this.options.onError?.(error); // an object store that is down: what it holds will be news when it is back
    }
    this.timer = setInterval(() => void this.tick(), this.options.pollMs ?? POLL_MS).unref();
  }

  close(): void {
    clearInterval(this.timer);
  }

  /** One look. */
  async tick(): Promise<void> {
    if (this.isBusy) return;
    this.isBusy = true;
    try {
      await this.step();
    } catch (error) {
      this.options.onError?.(error);
    } finally {
      this.isBusy = false;
    }
  }

  private async step(): Promise<void> {
    const { look, settleMs, onSettled, now = () => performance.now() } = this.options;
    const seen = await look();
    if (seen === undefined || seen.marks === this.built?.marks) {
      this.content = undefined;
      return;
    }
    // Whoever marks the end of an export will mark this one, too.
    if (this.built?.success !== undefined && seen.success === undefined) return;
    if (seen.content !== this.content) {
      this.content = seen.content;
      this.since = now();
      return;
    }
    if (now() - this.since < settleMs) return;
    this.content = undefined; // whatever comes of it, the next one has to hold still anew
    if (await onSettled()) this.built = seen;
  }
}

/** Looks at a models folder. */
export async function lookAtFolder(path: string): Promise<ExportLook | undefined> {
  const files = new Map<string, string>();
  try {
    for (const entry of await readdir(path, { recursive: true, withFileTypes: true })) {
      if (entry.isDirectory()) continue;
      const full = join(entry.parentPath, entry.name);
      const { size, mtimeMs, ino } = await stat(full);
      files.set(full.slice(path.length + 1), `${size} ${mtimeMs} ${ino}`);
    }
  } catch (error) {
    // It is just being replaced: look again later.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  const at = (name: string) => FOLDERS.map((folder) => files.get(join(folder, name)) ?? '').join(',');
  const success = at(SUCCESS);
  return {
    ...(success === ',' ? {} : { success }),
    marks: `${success};${at(DESCRIPTION)}`,
    content: [...files]
      .map(([name, facts]) => `${name} ${facts}`)
      .sort()
      .join('\n'),
  };
}
