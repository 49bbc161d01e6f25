/** When the turn of the event loop began that a request is read in: until now its bytes have waited for others. */
let startedAt: number | undefined;

/** Performance time of the first request of this turn. All requests of a turn were readable when it began. */
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
