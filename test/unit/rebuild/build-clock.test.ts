import { describe, expect, it } from 'vitest';
import { BuildClock } from '../../../src/rebuild/build-clock.js';

describe('the clock of a build', () => {
  it('adds up stages and judges what is left by the build before', () => {
    let now = 1000;
    const clock = new BuildClock({ import: 2, graph: 10, check: 3 }, () => now);
    expect(clock.view()).toEqual({ stage: 'start', done: 0, total: 1, seconds: 0, eta_seconds: 15 });
    now += 500;
    clock.update({ stage: 'import', done: 0, total: 10 });
    now += 1000;
    expect(clock.view().eta_seconds).toBe(14); // 1 s of 2 is gone
    clock.update({ stage: 'import', done: 8, total: 10 });
    expect(clock.view().eta_seconds).toBe(14); // a quarter of a second by its speed, and 13
    clock.update({ stage: 'graph', done: 0, total: 100 });
    now += 4000;
    clock.update({ stage: 'graph', done: 20, total: 100 });
    expect(clock.view()).toEqual({ stage: 'graph', done: 20, total: 100, seconds: 5.5, eta_seconds: 19 });
    now += 30_000;
    expect(clock.stages).toEqual({ start: 0.5, import: 1, graph: 34 });
    clock.update({ stage: 'import', done: 0, total: 1 }); // a stage may come back
    now += 250;
    expect(clock.stages).toEqual({ start: 0.5, import: 1.25, graph: 34 });
    expect(clock.seconds).toBe(35.75);
  });

  it('does not guess without a build before it', () => {
    const clock = new BuildClock();
    clock.update({ stage: 'graph', done: 5, total: 10 });
    expect(clock.view().eta_seconds).toBeNull();
  });
});
