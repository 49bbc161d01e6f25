/** When the requests of a turn of the event loop came, as far as the system says. */
import { setImmediate } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { loopTurn, turnStart } from '../../../src/retrieval/loop-turn.js';

function block(ms: number): void {
  for (const end = performance.now() + ms; performance.now() < end;);
}

it('is asked once a turn, though something else began it', async () => {
  await setImmediate();
  expect(loopTurn().waited).toBeUndefined();
  expect(loopTurn(() => 0).waited).toBe(0);
  expect(loopTurn(() => 7).waited).toBe(0);
});

it('takes off what the first request waited', async () => {
  loopTurn(() => 0);
  block(20);
  await setImmediate();
  const { readAt, waited, cameAt } = loopTurn(() => 5);
  expect([waited, readAt - cameAt]).toEqual([5, expect.closeTo(5, 6)]);
  expect(turnStart()).toBe(cameAt);
});

it('never more than since the turn before: who waited longer waited alone', async () => {
  const { readAt: before } = loopTurn(() => 0);
  block(5);
  await setImmediate();
  const { waited, cameAt } = loopTurn(() => 60_000);
  expect(waited).toBe(60_000);
  expect(cameAt).toBe(before);
});
