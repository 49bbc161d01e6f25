/** W3: when requests stand in their sockets. The deadline is 100 ms: waits from 25 are long, those over 12 keep a queue standing. */
import { expect, it } from 'vitest';
import { Backlog } from '../../../src/http/backlog.js';

/** Whether the queue stands after each of these. */
const stands = (told: readonly (readonly [now: number, waited: number])[]) => {
  const backlog = new Backlog(100);
  return told.map(([now, waited]) => {
    backlog.told(waited, now);
    return backlog.stands(now);
  });
};
const times = (count: number, step: number, waited: number, from = 0) =>
  Array.from({ length: count }, (_, i) => [from + i * step, waited] as const);

it('stands when for half the deadline all waits were long', () => {
  expect(stands(times(4, 20, 25))).toEqual([false, false, false, true]);
});

it('does not stand after a burst, among waits that are not long, or by two accidents with nothing between', () => {
  const burst = [...times(3, 20, 60), [60, 0], ...times(3, 20, 60, 80)] as const;
  expect(stands(burst)).not.toContain(true);
  expect(stands(times(200, 20, 20))).not.toContain(true);
  expect(stands(times(20, 500, 90))).not.toContain(true);
});

it('stands until for a second no wait was over the limit', () => {
  const begin = times(4, 20, 30);
  expect(stands([...begin, [100, 13], [1099, 0], [1101, 0]]).slice(4)).toEqual([true, true, false]);
  expect(stands([...begin, ...times(300, 20, 13, 80)]).slice(4)).not.toContain(false);
  expect(stands([...begin, ...times(60, 20, 11, 80)]).at(-1)).toBe(false);
});
