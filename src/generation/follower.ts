/**
 * Keeps what a process serves equal to CURRENT of its data folder, in any number of processes: a new generation is loaded
 * beside the one that serves, verified, warmed up and checked, and then one reference is replaced. Whatever fails leaves
 * what serves untouched. Without anything to serve, the newest generation that passes is taken, and without one the
 * process waits for one to be published.
 */
import { type FSWatcher, watch } from 'node:fs';
import { asBelfryError, BelfryError } from '../errors.js';
import { assertLoadFits, loadMemoryBytes } from './load-memory.js';
import type { DataFolder } from './data-folder.js';
import { exists } from './files.js';
import { Generation, type LoadOptions } from './generation.js';
import { readManifest } from './manifest.js';
import { type MemoryState, memoryState } from './memory.js';
import type { GenerationStore } from './store.js';
import { verifyFiles, verifySizes } from './verify.js';
import { warmUp } from './warm-up.js';

/** What happened, for logs and metrics. */
export type FollowerEvent =
  | {
      readonly kind: 'swapped';
      readonly generation: Generation;
      readonly before?: string;
      readonly seconds: LoadSeconds;
    }
  /** Damaged, or of models that do not load: what serves goes on serving, or an older one is taken. */
  | {
      readonly kind: 'passed over';
      readonly id: string;
      readonly error: BelfryError;
      /** Its bytes are not what its build wrote, and it was moved aside. */
      readonly isQuarantined: boolean;
    }
  /** Good as far as is known, and not to be loaded now: BELFRY_MEMORY_SPACE. */
  | { readonly kind: 'refused'; readonly id: string; readonly error: BelfryError }
  /** `stop-then-load`: nothing serves until the next one is loaded. */
  | { readonly kind: 'stopped'; readonly id: string; readonly next: string }
  /** Changes are seen by polling alone. */
  | { readonly kind: 'unwatched'; readonly error: Error };

export interface LoadSeconds {
  /** Verifying runs beside loading. */
  readonly load: number;
  readonly warmUp: number;
}

export interface FollowerOptions {
  readonly data: DataFolder;
  readonly store: GenerationStore;
  readonly load?: LoadOptions;
  /** When both do not fit into memory: `beside` refuses the next, `stop-then-load` stops serving until it is loaded. */
  readonly swap?: 'beside' | 'stop-then-load';
  readonly pollMs?: number;
  /** Throws to refuse a generation that is loaded and warm: the canaries of its build. */
  readonly canary?: (generation: Generation) => Promise<void>;
  readonly memory?: () => MemoryState;
  readonly onEvent?: (event: FollowerEvent) => void;
}

const POLL_MS = 500;
/** Loaded ones at a time: one that serves, one that requests still hold, one that loads. */
const GENERATIONS_MAX = 3;
/** A failure that may pass (no file handles left, a folder not yet visible) is tried again after so long, then twice that. */
const RETRY_MS = 1_000;
const RETRY_MS_MAX = 60_000;

interface Failure {
  readonly error: BelfryError;
  readonly tries: number;
  /** By the monotonic clock; infinite for what cannot get better. */
  readonly retryAt: number;
}

export class GenerationFollower {
  private readonly failures = new Map<string, Failure>();
  private readonly closing = new AbortController();
  private watcher: FSWatcher | undefined;
  private timer: NodeJS.Timeout | undefined;
  private looking: Promise<void> | undefined;
  private isAskedAgain = false;
  private loadingId: string | undefined;
  private servedLast: string | undefined;

  constructor(private readonly options: FollowerOptions) {}

  /** Serves the best generation there is, if there is one, and follows CURRENT from then on. */
  async start(): Promise<void> {
    await this.check();
    const { data, pollMs = POLL_MS, onEvent } = this.options;
    try {
      this.watcher = watch(data.path, { persistent: false }, (_event, name) => {
        if (name === null || name === 'CURRENT') void this.check();
      });
      this.watcher.on('error', (error) => onEvent?.({ kind: 'unwatched', error }));
    } catch (error) {
      onEvent?.({ kind: 'unwatched', error: error as Error });
    }
    this.timer = setInterval(() => void this.check(), pollMs);
    this.timer.unref();
  }

  /** The generation that is being loaded. */
  get loading(): string | undefined {
    return this.loadingId;
  }

  /** Why what CURRENT names does not serve; undefined when it does, or when nothing is known yet. */
  problem: BelfryError | undefined;

  /** Looks at CURRENT now. Resolves when what it named is served or refused; never rejects. */
  check(): Promise<void> {
    if (this.looking !== undefined) {
      this.isAskedAgain = true;
      return this.looking;
    }
    this.looking = this.lookUntilSettled().finally(() => {
      this.looking = undefined;
    });
    return this.looking;
  }

  /** Stops following and gives up what is being loaded. The store stays as it is. */
  async close(): Promise<void> {
    this.closing.abort(new BelfryError('BELFRY_CLOSED', 'the process is stopping'));
    clearInterval(this.timer);
    this.watcher?.close();
    await this.looking;
  }

  private async lookUntilSettled(): Promise<void> {
    do {
      this.isAskedAgain = false;
      try {
        await this.look();
      } catch (error) {
        // The data folder itself cannot be read: what serves goes on, and the next look tries again.
        this.problem = asBelfryError(error, 'BELFRY_FILE_UNREADABLE');
      }
    } while (this.isAskedAgain && !this.closing.signal.aborted);
  }

  private async look(): Promise<void> {
    const { data, store } = this.options;
    const { current: pointed, previous } = await data.pointer();
    const serving = store.peek()?.id;
    if (serving !== undefined && (pointed === undefined || pointed === serving)) {
      this.problem = undefined;
      this.failures.clear();
      return;
    }
    // Without anything to serve: what served here, then what CURRENT says served before, then the newest.
    const ids = serving === undefined ? await data.ids() : [];
    const others = [...[this.servedLast, previous].filter((id) => id !== undefined && ids.includes(id)), ...ids];
    const candidates = new Set([pointed, ...others].filter((id) => id !== undefined));
    let problem: BelfryError | undefined;
    for (const id of candidates) {
      const before = this.failures.get(id);
      if (before !== undefined && performance.now() < before.retryAt) {
        problem ??= before.error;
        continue;
      }
      try {
        await this.takeOver(id);
        this.failures.delete(id);
        this.problem = problem;
        return;
      } catch (error) {
        if (this.closing.signal.aborted) return;
        const failure = await this.failed(id, asBelfryError(error, 'BELFRY_GENERATION_CORRUPT'), before);
        problem ??= failure.error;
        if (this.options.store.peek() === undefined && serving !== undefined) this.isAskedAgain = true; // stopped for nothing
      }
    }
    this.problem =
      problem ??
      new BelfryError(
        'BELFRY_NOT_READY',
        'the data folder holds no generation yet; build one with belfry build, or POST /admin/rebuild',
      );
  }

  private async takeOver(id: string): Promise<void> {
    const { data, store, load, canary, onEvent } = this.options;
    const { signal } = this.closing;
    const folder = data.folderOf(id);
    if (!(await exists(folder)))
      throw new BelfryError('BELFRY_FILE_UNREADABLE', `generation ${id} is not in ${data.path}`);
    const manifest = await readManifest(folder);
    await verifySizes(folder, manifest);
    await this.makeRoom(id, loadMemoryBytes(manifest, load?.graphLoad));

    const isBackground = store.peek() !== undefined;
    this.loadingId = id;
    try {
      const started = performance.now();
      const [verified, loaded] = await Promise.allSettled([
        verifyFiles(folder, manifest, { isBackground, threads: isBackground ? 1 : 2, signal }),
        Generation.load({ id, folder, manifest }, { ...load, isBackground }),
      ]);
      if (loaded.status === 'rejected') throw verified.status === 'rejected' ? verified.reason : loaded.reason;
      const generation = loaded.value;
      try {
        if (verified.status === 'rejected') throw verified.reason;
        const ready = performance.now();
        await warmUp(generation);
        await canary?.(generation);
        signal.throwIfAborted();
        const before = store.peek()?.id;
        if (before !== undefined && (await data.pointed()) !== id) {
          this.isAskedAgain = true; // another one was published, or this one taken back, while it was loaded
          await generation.close();
          return;
        }
        store.swap(generation);
        this.servedLast = id;
        const seconds = { load: (ready - started) / 1000, warmUp: (performance.now() - ready) / 1000 };
        onEvent?.({ kind: 'swapped', generation, ...(before === undefined ? {} : { before }), seconds });
      } catch (error) {
        await generation.close();
        throw error;
      }
    } finally {
      this.loadingId = undefined;
    }
  }

  /** Waits for older generations to be freed, then sees that the next one fits. Error: BELFRY_MEMORY_SPACE. */
  private async makeRoom(id: string, bytes: number): Promise<void> {
    const { store, swap = 'beside', memory = memoryState, onEvent } = this.options;
    while (store.held >= GENERATIONS_MAX) await store.nextFreed();
    const serving = store.peek();
    try {
      assertLoadFits(id, bytes, memory(), serving !== undefined);
    } catch (error) {
      if (serving === undefined || swap === 'beside') throw error;
      onEvent?.({ kind: 'stopped', id: serving.id, next: id });
      await store.clear();
      assertLoadFits(id, bytes, memory(), false);
    }
  }

  private async failed(id: string, error: BelfryError, before: Failure | undefined): Promise<Failure> {
    const tries = (before?.tries ?? 0) + 1;
    const isLasting = error.code !== 'BELFRY_FILE_UNREADABLE' && error.code !== 'BELFRY_MEMORY_SPACE';
    const wait = Math.min(RETRY_MS_MAX, RETRY_MS * 2 ** (tries - 1));
    const failure = { error, tries, retryAt: isLasting ? Number.POSITIVE_INFINITY : performance.now() + wait };
    this.failures.set(id, failure);
    if (before?.error.code !== error.code) {
      if (error.code === 'BELFRY_MEMORY_SPACE') this.options.onEvent?.({ kind: 'refused', id, error });
      else {
        const isQuarantined = error.code === 'BELFRY_GENERATION_CORRUPT' && (await this.options.data.quarantine(id));
        this.options.onEvent?.({ kind: 'passed over', id, error, isQuarantined });
      }
    }
    return failure;
  }
}
