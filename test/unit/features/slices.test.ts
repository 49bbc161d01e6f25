import { describe, expect, it } from 'vitest';
import { Slices } from '../../../src/features/slices.js';

const TURNS = 25;

async function lasting(slices: Slices): Promise<number> {
  const started = performance.now();
  for (let turn = 0; turn < TURNS; turn++) await slices.next();
  return performance.now() - started;
}

describe('slices', () => {
  it('are over after less than a millisecond, and begin anew after a turn', async () => {
    for (const slices of [new Slices(), Slices.withRests()]) {
      await slices.next();
      const started = performance.now();
      while (!slices.isOver) expect(performance.now() - started).toBeLessThan(1);
      await slices.next();
      expect(slices.isOver).toBe(false);
    }
  });

  it('with rests leave the thread alone for a millisecond at least', async () => {
    expect(await lasting(Slices.withRests())).toBeGreaterThan(TURNS);
  });

  it('end where nobody waits any more', async () => {
    const slices = new Slices(() => {
      throw new Error('late');
    });
    await expect(slices.next()).rejects.toThrow('late');
  });
});
