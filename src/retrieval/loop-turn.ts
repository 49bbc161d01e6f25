/**
 * Turns of the event loop. All requests that a turn reads were there when it began, so its age is what the next of them has
 * waited; and whoever comes meanwhile waits for its end. Under overload turns grow long before anything else shows it.
 */
let startedAt: number | undefined;

/** Performance time of the first request of this turn. */
export function turnStart(): number {
  if (startedAt === undefined) {
    startedAt = performance.now();
    setImmediate(endTurn);
  }
  return startedAt;
}

function endTurn(): void {
  startedAt = undefined;
}
