/** The keys of a server: who is this? One look-up, one hash and one comparison a request, whatever is sent. */
import type { BelfryError } from '../errors.js';
import { asBelfryError } from '../errors.js';
import { permissionProblem, readKeys } from './keys-file.js';
import { digestOf, idOfKey, isSameSecret, type KeyRecord, type Scope } from './keys.js';
import { type Allowance, KeyUsage } from './limits.js';
import { watchFiles } from './watched-files.js';

/** Who asks. */
export interface Caller {
  readonly id: string;
  readonly name: string;
  readonly scopes: ReadonlySet<Scope>;
  readonly userPrefix: string | undefined;
  readonly allowance: Allowance | undefined;
}

interface Entry extends Caller {
  readonly digest: Buffer;
  /** Milliseconds since 1970. */
  readonly expires: number;
}

/** Compared with where no key has the id that was sent, so that this takes no less time. */
const NOBODY = digestOf('nobody');

export interface KeyRingOptions {
  /** Called when a changed file was taken over, or could not be. */
  readonly onReload?: (outcome: { readonly keys: number } | { readonly error: BelfryError }) => void;
  readonly watchMs?: number;
  /** File in which is counted what keys have used; without it, in memory. Made when a key has limits. */
  readonly usage?: string;
}

export class KeyRing {
  #entries: ReadonlyMap<string, Entry>;
  readonly #stop: () => void;
  #usage: KeyUsage | undefined;
  /** Why the changed file is not in use; what was read before is. */
  problem: BelfryError | undefined;

  private constructor(
    private readonly path: string,
    { onReload, watchMs, usage }: KeyRingOptions,
  ) {
    this.#entries = this.#read(usage);
    this.#stop = watchFiles(
      [path],
      () => {
        try {
          this.#entries = this.#read(usage);
          this.problem = undefined;
          onReload?.({ keys: this.#entries.size });
        } catch (thrown) {
          this.problem = asBelfryError(thrown, 'BELFRY_KEYS_INVALID');
          onReload?.({ error: this.problem });
        }
      },
      watchMs,
    );
  }

  /** Errors: BELFRY_KEYS_INVALID, and those of KeyUsage.open. */
  static open(path: string, options: KeyRingOptions = {}): KeyRing {
    return new KeyRing(path, options);
  }

  get size(): number {
    return this.#entries.size;
  }

  permissionProblem(): string | undefined {
    return permissionProblem(this.path);
  }

  /** Undefined for a key that is unknown, wrong or expired: nobody learns which. */
  find(text: string): Caller | undefined {
    const entry = this.#entries.get(idOfKey(text) ?? '');
    const isRight = isSameSecret(text, entry?.digest ?? NOBODY);
    return entry !== undefined && isRight && Date.now() < entry.expires ? entry : undefined;
  }

  close(): void {
    this.#stop();
    this.#usage?.close();
  }

  #read(usage: string | undefined): Map<string, Entry> {
    const records = readKeys(this.path);
    if (records.some(hasLimits)) this.#usage ??= KeyUsage.open(usage);
    return entriesOf(records, this.#usage);
  }
}

function entriesOf(records: readonly KeyRecord[], usage: KeyUsage | undefined): Map<string, Entry> {
  return new Map(
    records.map((record) => {
      const { id, name, scopes, sha256, expires, user_prefix } = record;
      return [
        id,
        {
          id,
          name,
          scopes: new Set(scopes),
          digest: Buffer.from(sha256, 'hex'),
          expires: expires === undefined ? Number.POSITIVE_INFINITY : Date.parse(expires),
          userPrefix: user_prefix,
          allowance: hasLimits(record) ? usage?.of(record) : undefined,
        },
      ];
    }),
  );
}

function hasLimits(record: KeyRecord): boolean {
  return record.requests_per_second !== undefined || record.requests_per_day !== undefined;
}
