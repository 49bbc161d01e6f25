/** Scans that share a reading of the codes: each gets its own answer, nobody waits for company, an error reaches all. */
import { describe, expect, it } from 'vitest';
import type { NativeHits, NativeIndex, NativeSearch } from '../../../src/ann/addon.js';
import { GatheredScans, type Scan } from '../../../src/ann/gathered-scans.js';

/** An index that answers query q with rows [q[0] * 10, ...], and only when told to. */
function slowIndex() {
  const calls: { options: NativeSearch; finish: () => void; fail: (error: Error) => void }[] = [];
  const search = (options: NativeSearch) =>
    new Promise<NativeHits>((resolve, reject) => {
      const count = options.queries.length / 2;
      const rows = Uint32Array.from({ length: count * options.k }, (_, i) => {
        const query = Math.floor(i / options.k);
        return options.queries[query * 2]! * 10 + (i % options.k);
      });
      const hits: NativeHits = {
        rows,
        scores: Float32Array.from(rows),
        counts: new Uint32Array(count).fill(options.k),
        path: 'scan',
        scored: 0,
        expanded: 0,
        fallbacks: 0,
        queueMs: 0,
        runMs: 0,
      };
      calls.push({ options, finish: () => resolve(hits), fail: reject });
    });
  return { calls, index: { search } as unknown as NativeIndex };
}

const scan = (value: number, more: Partial<Scan> = {}): Scan => ({
  query: Float32Array.of(value, 0),
  k: 3,
  mode: 'exact',
  exclude: new Uint32Array(),
  ...more,
});
const settle = () => new Promise((resolve) => setImmediate(resolve));

describe('gathered scans', () => {
  it('runs the first at once and the rest together', async () => {
    const { calls, index } = slowIndex();
    const scans = new GatheredScans(index);
    const answers = [1, 2, 3, 4].map((value) => scans.search(scan(value)));
    expect(calls).toHaveLength(1);
    expect(calls[0]!.options.queries).toEqual(Float32Array.of(1, 0));
    expect(scans.queued).toBe(3);
    calls[0]!.finish();
    await settle();
    expect(calls).toHaveLength(2);
    expect(calls[1]!.options.queries).toEqual(Float32Array.of(2, 0, 3, 0, 4, 0));
    calls[1]!.finish();
    const rows = (await Promise.all(answers)).map((hits) => [...hits.rows]);
    expect(rows).toEqual([1, 2, 3, 4].map((value) => [value * 10, value * 10 + 1, value * 10 + 2]));
    expect((await answers[3]!).counts).toEqual(Uint32Array.of(3));
  });

  it('keeps the exclusions of each query apart', async () => {
    const { calls, index } = slowIndex();
    const scans = new GatheredScans(index);
    void scans.search(scan(0));
    void scans.search(scan(1, { exclude: Uint32Array.of(7, 8) }));
    void scans.search(scan(2));
    void scans.search(scan(3, { exclude: Uint32Array.of(9) }));
    calls[0]!.finish();
    await settle();
    expect(calls[1]!.options.excludeEach).toEqual({
      offsets: Uint32Array.of(0, 2, 2, 3),
      rows: Uint32Array.of(7, 8, 9),
    });
    expect(calls[1]!.options.exclude).toBeUndefined();
  });

  it('never mixes k, modes or rescoring', async () => {
    const { calls, index } = slowIndex();
    const scans = new GatheredScans(index);
    void scans.search(scan(0));
    const waiting = [
      scans.search(scan(1)),
      scans.search(scan(2, { k: 5 })),
      scans.search(scan(3, { mode: 'codes', rescore: 30 })),
      scans.search(scan(4)),
    ];
    for (let at = 0; at < 4; at++) {
      calls[at]!.finish();
      await settle();
    }
    expect(calls.map(({ options }) => [options.mode, options.k, options.queries.length / 2])).toEqual([
      ['exact', 3, 1],
      ['exact', 3, 2],
      ['exact', 5, 1],
      ['codes', 3, 1],
    ]);
    expect((await waiting[1]!).rows).toHaveLength(5);
  });

  it('is cut into batches of 256', async () => {
    const { calls, index } = slowIndex();
    const scans = new GatheredScans(index);
    for (let value = 0; value < 301; value++) void scans.search(scan(value));
    calls[0]!.finish();
    await settle();
    calls[1]!.finish();
    await settle();
    expect(calls.map(({ options }) => options.queries.length / 2)).toEqual([1, 256, 44]);
  });

  it('tells an error to all that shared the scan, and goes on', async () => {
    const { calls, index } = slowIndex();
    const scans = new GatheredScans(index);
    const first = scans.search(scan(1));
    const second = scans.search(scan(2));
    calls[0]!.fail(new Error('no memory'));
    await expect(first).rejects.toThrow('no memory');
    await settle();
    calls[1]!.finish();
    expect([...(await second).rows]).toEqual([20, 21, 22]);
  });
});

it('drops what is past its deadline while another scan runs, and scans the rest', async () => {
  const { calls, index } = slowIndex();
  const scans = new GatheredScans(index);
  const first = scans.search(scan(1));
  const late = scans.search(scan(2, { until: performance.now() - 1 }));
  const inTime = scans.search(scan(3, { until: performance.now() + 60_000 }));
  const dropped = expect(late).rejects.toMatchObject({ code: 'BELFRY_DEADLINE_EXCEEDED' });
  calls[0]!.finish();
  await first;
  await dropped;
  await settle();
  expect(calls).toHaveLength(2);
  calls[1]!.finish();
  expect([...(await inTime).rows]).toEqual([30, 31, 32]);
});
