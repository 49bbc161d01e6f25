/**
 * The memory of the tensors of one model run: one buffer, which is handed over to the thread that runs the model, comes back with its
 * answer and is used again. New buffers for each run are garbage that the collector is called for, and far from the cache.
 */
type Values = Float32Array | Float64Array | Int32Array;

export class FeedMemory {
  #wanted = 0;

  constructor(readonly buffer: ArrayBuffer = new ArrayBuffer(0)) {}

  /** Bytes that were asked for. */
  get wanted(): number {
    return this.#wanted;
  }

  /** Of any content; of its own where there is no room left. */
  take<T extends Values>(Type: new (buffer: ArrayBuffer, offset: number, length: number) => T, length: number): T {
    const start = this.#wanted;
    const bytes = length * (Type as unknown as { readonly BYTES_PER_ELEMENT: number }).BYTES_PER_ELEMENT;
    this.#wanted += Math.ceil(bytes / 8) * 8;
    const isThere = start + bytes <= this.buffer.byteLength;
    return isThere ? new Type(this.buffer, start, length) : new Type(new ArrayBuffer(bytes), 0, length);
  }
}

/** Of one buffer. Larger feeds have arrays of their own beyond it, so that a few large requests leave little behind. */
const BYTES_MAX = 2 * 2 ** 20;

/** Buffers that wait for the next run. */
export class FeedBuffers {
  readonly #spare: ArrayBuffer[] = [];
  #bytes = 0;
  /** Runs on a server give nothing back, and need no buffer of more than they fill. */
  #isUsedAgain = false;

  constructor(private readonly most = 16) {}

  /** For the feeds of one run. */
  take(): FeedMemory {
    return new FeedMemory(this.#spare.pop() ?? new ArrayBuffer(this.#isUsedAgain ? this.#bytes : 0));
  }

  /** How much the feeds took, once they are made. */
  taken({ wanted }: FeedMemory): void {
    this.#bytes = Math.min(BYTES_MAX, Math.max(this.#bytes, wanted));
  }

  /** Feeds that stayed here and are of no use any more. */
  done(memory: FeedMemory): void {
    this.taken(memory);
    this.giveBack([memory.buffer]);
  }

  giveBack(buffers: readonly ArrayBuffer[]): void {
    this.#isUsedAgain ||= buffers.length > 0;
    for (const buffer of buffers) {
      const isOfUse = buffer.byteLength >= this.#bytes && buffer.byteLength <= BYTES_MAX;
      if (isOfUse && this.#spare.length < this.most) this.#spare.push(buffer);
    }
  }
}
