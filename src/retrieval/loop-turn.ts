/**
 * Turns of the event loop. All requests that a turn reads were there when it began, so its age is what the next of them has
 * waited; and whoever comes meanwhile waits for its end. Under overload turns grow long before anything else shows it.
 */
export interface Turn {
  /** Performance time at which its first request was read. */
  readonly readAt: number;
  /** Milliseconds that the first request had waited in its socket, by the system; undefined while nobody has asked. */
  readonly waited: number | undefined;
  /** Performance time at which the requests of this turn came, as far as that is known. */
  readonly cameAt: number;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

let current: Mutable<Turn> | undefined;
let lastReadAt = Number.NEGATIVE_INFINITY;

/** The turn that runs; `waited` tells how many milliseconds a request has waited in its socket, asked once a turn. */
export function loopTurn(waited?: () => number): Turn {
  if (current === undefined) {
    const readAt = performance.now();
    current = { readAt, waited: undefined, cameAt: readAt };
    setImmediate(endTurn);
  }
  if (current.waited === undefined && waited !== undefined) {
    current.waited = waited();
    // Whoever came before the turn before was read in it. One who waited longer waited alone, such as a client that takes its
    // answers late and whose requests are not read meanwhile: that is no time of the others.
    current.cameAt = Math.max(lastReadAt, current.readAt - current.waited);
  }
  return current;
}

/** Performance time at which the requests of this turn came: the beginning of their deadlines. */
export function turnStart(): number {
  return loopTurn().cameAt;
}

function endTurn(): void {
  lastReadAt = current!.readAt;
  current = undefined;
}
