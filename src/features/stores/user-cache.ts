/** Answers of a store, kept for a while: at most so many bytes of them, the one that was used longest ago goes first. */
import type { Id } from '../../types.js';
import type { StoredUser } from './feature-store.js';

export interface CachedUser {
  /** Undefined: the store did not know him. */
  readonly user: StoredUser | undefined;
  /** When the store answered, milliseconds, monotonic. */
  readonly at: number;
}

const ENTRY_BYTES = 128;

export class UserCache {
  private readonly entries = new Map<Id, CachedUser & { readonly bytes: number }>();
  private held = 0;

  constructor(private readonly bytesMax: number) {}

  get bytes(): number {
    return this.held;
  }

  get(id: Id): CachedUser | undefined {
    const found = this.entries.get(id);
    if (found === undefined) return undefined;
    this.entries.delete(id);
    this.entries.set(id, found);
    return found;
  }

  set(id: Id, user: StoredUser | undefined, at: number): void {
    this.remove(id);
    const bytes = ENTRY_BYTES + String(id).length * 2 + sizeOf(user);
    if (bytes > this.bytesMax) return;
    this.entries.set(id, { user, at, bytes });
    this.held += bytes;
    for (const [oldest] of this.entries) {
      if (this.held <= this.bytesMax) break;
      this.remove(oldest);
    }
  }

  private remove(id: Id): void {
    this.held -= this.entries.get(id)?.bytes ?? 0;
    this.entries.delete(id);
  }
}

/** Roughly, as V8 holds it. */
function sizeOf(user: StoredUser | undefined): number {
  let bytes = 0;
  for (const { value } of Object.values(user ?? {})) {
    bytes += 64;
    if (typeof value === 'string') bytes += value.length * 2;
    else if (Array.isArray(value))
      for (const entry of value) bytes += typeof entry === 'string' ? 24 + entry.length * 2 : 8;
  }
  return bytes;
}
