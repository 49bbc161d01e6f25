/** TallyHistogram gives a registry what prom-client's Histogram gives it, alone and summed up over processes. */
import { AggregatorRegistry, Histogram, Registry } from 'prom-client';
import { describe, expect, it } from 'vitest';
import { TallyHistogram } from '../../../src/telemetry/tally-histogram.js';

const facts = { name: 'belfry_test_seconds', help: 'Some "time".', buckets: [0.001, 0.01, 0.5] };
const labelNames = ['route', 'status'] as const;
const observations: readonly (readonly [number, string, string])[] = [
  [0.0005, '/retrieve', '200'],
  [0.001, '/retrieve', '200'],
  [0.0011, '/retrieve', '503'],
  [7, '/retrieve', '200'],
  [0, '/similar/items/:id', '200'],
  [0.5, '/say "\\hello"', '404'],
];

function both(): { ours: Registry; theirs: Registry; tally: TallyHistogram } {
  const [ours, theirs] = [new Registry(), new Registry()];
  const tally = new TallyHistogram({ ...facts, labelNames, registers: [ours] });
  const histogram = new Histogram({ ...facts, labelNames, registers: [theirs] });
  for (const [value, route, status] of observations) {
    tally.observe(value, route, status);
    histogram.observe({ route, status }, value);
  }
  return { ours, theirs, tally };
}

describe('TallyHistogram', () => {
  it('is written as the histogram of prom-client is', async () => {
    const { ours, theirs } = both();
    const text = await ours.metrics();
    expect(text).toContain('belfry_test_seconds_bucket{le="0.001",route="/retrieve",status="200"} 2');
    expect(text).toContain('belfry_test_seconds_count{route="/retrieve",status="200"} 3');
    expect(text).toBe(await theirs.metrics());
  });

  it('adds up over processes as the histogram of prom-client does', async () => {
    const { ours, theirs } = both();
    const summed = async (one: Registry) => {
      const values = await one.getMetricsAsJSON();
      return AggregatorRegistry.aggregate([values, structuredClone(values)] as never).metrics();
    };
    const text = await summed(ours);
    expect(text).toContain('belfry_test_seconds_count{route="/retrieve",status="200"} 6');
    expect(text).toBe(await summed(theirs));
  });

  it('has nothing to say before the first observation, nor after a reset', async () => {
    const { ours, tally } = both();
    tally.reset();
    expect(await ours.metrics()).toBe(
      '# HELP belfry_test_seconds Some "time".\n# TYPE belfry_test_seconds histogram\n',
    );
  });
});
