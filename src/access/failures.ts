/**
 * Wrong keys by address. Above the limit the answer is "later" and nothing more is learnt. A right key is never refused
 * for the wrong ones of others behind the same address: that would let anybody lock them out, and a secret of 256 bits
 * needs no help against guessing.
 */
import { isIPv6 } from 'node:net';

const WINDOW_MS = 60_000;
export const FAILURES_MAX = 20;
/** Addresses that are remembered; the oldest go first. */
const ADDRESSES_MAX = 10_000;

export class FailedKeys {
  readonly #seen = new Map<string, { since: number; count: number }>();

  constructor(private readonly now: () => number = () => performance.now()) {}

  /** Counts one. Undefined, or the seconds for which this address is refused. */
  count(address: string): number | undefined {
    const now = this.now();
    const network = networkOf(address);
    let seen = this.#seen.get(network);
    if (seen === undefined || now - seen.since >= WINDOW_MS) {
      seen = { since: now, count: 0 };
      this.#seen.delete(network);
      this.#seen.set(network, seen);
      if (this.#seen.size > ADDRESSES_MAX) this.#seen.delete(this.#seen.keys().next().value as string);
    }
    seen.count += 1;
    return seen.count <= FAILURES_MAX ? undefined : Math.ceil((seen.since + WINDOW_MS - now) / 1000);
  }

  get size(): number {
    return this.#seen.size;
  }
}

/** Who has one IPv6 address has 2^64 of them. */
function networkOf(address: string): string {
  if (!isIPv6(address) || address.includes('.')) return address;
  const [head = '', tail] = address.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = tail === undefined ? 0 : 8 - left.length - right.length;
  return [...left, ...Array<string>(zeros).fill('0'), ...right].slice(0, 4).join(':');
}
