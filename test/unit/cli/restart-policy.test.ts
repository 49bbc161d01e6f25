import { describe, expect, it } from 'vitest';
import { RestartPolicy } from '../../../src/cli/restart-policy.js';

describe('RestartPolicy', () => {
  it('starts again at once, after longer and longer pauses when it keeps dying, and then not at all', () => {
    const policy = new RestartPolicy();
    const pauses = Array.from({ length: 6 }, () => policy.afterDeath(100));
    expect(pauses).toEqual([0, 500, 1000, 2000, 4000, undefined]);
  });

  it('forgives a worker that lived', () => {
    const policy = new RestartPolicy();
    for (let death = 0; death < 4; death++) policy.afterDeath(100);
    expect(policy.afterDeath(10_000)).toBe(0);
    expect(policy.afterDeath(100)).toBe(500);
  });
});
