/**
 * Turns of the event loop. All requests that a turn reads were there when it began, so its age is what the next of them has
 * waited; and whoever comes meanwhile waits for its end. Under overload turns grow long before anything else shows it.
 */
export interface Turn {
  /** Performance time at which its first request was read. */
  readonly readAt: number;
  /** Performance time at which that request came; those behind it have waited about as long. */
  readonly cameAt: number;
}

let current: Turn | undefined;

/** The turn that runs; `waited` tells how many milliseconds its first request has waited in its socket, asked once a turn. */
export function loopTurn(waited?: () => number): Turn {
  if (current === undefined) {
    const readAt = performance.now();
    current = { readAt, cameAt: readAt - (waited?.() ?? 0) };
    setImmediate(endTurn);
  }
  return current;
}

/** Performance time at which the requests of this turn came: the beginning of their deadlines. */
export function turnStart(): number {
  return loopTurn().cameAt;
}

function endTurn(): void {
  current = undefined;
}
