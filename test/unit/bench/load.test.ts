/** The parts of a load: when, what, how it is counted, and what is refused before it begins. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { degradedReasons, errorCodeOf, generationOf } from '../../../src/bench/load/answers.js';
import { kneeOf, measuresOf, type Step, stepsPastKnee } from '../../../src/bench/load/measures.js';
import { fileMix, userMix } from '../../../src/bench/load/mix.js';
import { planLoad } from '../../../src/bench/load/options.js';
import {
  addCount,
  mergeRecordings,
  newHistogram,
  newWindow,
  packRecording,
  percentileMs,
  recordMs,
  unpackRecording,
} from '../../../src/bench/load/recording.js';
import { Schedule } from '../../../src/bench/load/schedule.js';
import { readGauges } from '../../../src/bench/load/server-metrics.js';
import { judgeAnswers } from '../../../src/bench/load/truth.js';
import { drawFrom, seeded, zipfCumulative } from '../../../src/bench/random.js';
import { temporaryFolder } from '../../support/folders.js';

const due = (schedule: Schedule): number[] => {
  const times: number[] = [];
  for (let at = schedule.next(); Number.isFinite(at); at = schedule.next()) times.push(at);
  return times;
};

describe('schedule', () => {
  it('spaces requests evenly, and changes the rate where a segment ends', () => {
    const segments = [
      { rate: 4, seconds: 1 },
      { rate: 2, seconds: 1 },
    ];
    expect(due(new Schedule(segments, 'uniform', { index: 0, count: 1 }, 1))).toEqual([0, 250, 500, 750, 1000, 1500]);
  });

  it('shares a uniform schedule between workers without a gap or a double', () => {
    const segments = [{ rate: 10, seconds: 1 }];
    const parts = [0, 1, 2].map((index) => due(new Schedule(segments, 'uniform', { index, count: 3 }, 1)));
    expect(parts.flat().sort((a, b) => a - b)).toEqual([0, 100, 200, 300, 400, 500, 600, 700, 800, 900]);
  });

  it('draws Poisson arrivals of the rate: as many as their variance allows, gaps of mean and deviation 1/rate', () => {
    const times = [0, 1].flatMap((index) =>
      due(new Schedule([{ rate: 1000, seconds: 20 }], 'poisson', { index, count: 2 }, 7)),
    );
    expect(Math.abs(times.length - 20_000)).toBeLessThan(4 * Math.sqrt(20_000));
    const sorted = times.sort((a, b) => a - b);
    const gaps = sorted.slice(1).map((time, i) => time - (sorted[i] as number));
    const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
    const deviation = Math.sqrt(gaps.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / gaps.length);
    expect(mean).toBeCloseTo(1, 1);
    expect(deviation).toBeCloseTo(1, 1);
  });
});

describe('mix', () => {
  const shaping = { k: 10, rerankShare: 0.25, filters: [], filterShare: 1, batch: 1, zipf: 1, seed: 3 };
  const bodies = (mix: { requests: readonly { body: unknown }[]; order: Uint32Array }) =>
    [...mix.order].map((at) => JSON.parse(mix.requests[at]!.body as string) as Record<string, unknown>);

  it('asks for users by zipf and re-ranks the share', () => {
    const users = Array.from({ length: 100 }, (_, i) => `u${i}`);
    const asked = bodies(userMix(users, shaping));
    const counts = new Map<unknown, number>();
    for (const { user_id } of asked) counts.set(user_id, (counts.get(user_id) ?? 0) + 1);
    const [first, second] = [...counts.values()].sort((a, b) => b - a) as [number, number];
    const harmonic = users.reduce((sum, _, i) => sum + 1 / (i + 1), 0);
    expect(first / asked.length).toBeCloseTo(1 / harmonic, 2);
    expect(first / second).toBeCloseTo(2, 0);
    expect(asked.filter(({ rerank }) => rerank === true).length / asked.length).toBeCloseTo(0.25, 2);
    expect(bodies(userMix(users, shaping))).toEqual(asked);
  });

  it('draws by weight', () => {
    const random = seeded(5);
    const cumulative = Float64Array.of(0, 3, 3, 4);
    const counts = [0, 0, 0, 0];
    for (let i = 0; i < 4000; i++) counts[drawFrom(cumulative, random)]!++;
    expect([counts[0], counts[2]]).toEqual([0, 0]);
    expect(counts[1]! / 4000).toBeCloseTo(0.75, 1);
    expect([...zipfCumulative(3, 0)]).toEqual([1, 2, 3]);
  });

  it('reads lines of bodies and of whole requests, with weights', async () => {
    const file = join(temporaryFolder(), 'mix.jsonl');
    writeFileSync(
      file,
      `{"user_id":"a","k":3}\n\n{"path":"/similar/items","body":{"item_id":"x"},"headers":{"x-a":"1"},"weight":0}\n`,
    );
    const { requests, order } = await fileMix(file, 1);
    expect(requests).toEqual([
      {
        path: '/retrieve',
        method: 'POST',
        headers: ['content-type', 'application/json'],
        body: '{"user_id":"a","k":3}',
      },
      {
        path: '/similar/items',
        method: 'POST',
        headers: ['content-type', 'application/json', 'x-a', '1'],
        body: '{"item_id":"x"}',
      },
    ]);
    expect(new Set(order)).toEqual(new Set([0]));
  });

  it.each([
    ['', 'BELFRY_INVALID_ARGUMENT', /holds no request/],
    ['{"user_id":1}\nno json', 'BELFRY_INVALID_ARGUMENT', /mix.jsonl line 2 is not JSON/],
    ['[1]', 'BELFRY_INVALID_ARGUMENT', /entry 1 to be a JSON object/],
    ['{"user_id":1,"weight":-1}', 'BELFRY_INVALID_ARGUMENT', /line 1: a weight of 0 or more/],
    ['{"user_id":1,"weight":0}', 'BELFRY_INVALID_ARGUMENT', /all weights are 0/],
    [
      '{"user_id":1,"k":5,"truth":[1,2,3]}',
      'BELFRY_BENCH_TRUTH',
      /line 1: expected at least 5 ids \(its k\), received 3; is the file cut off\?/,
    ],
    ['{"path":"retrieve"}', 'BELFRY_INVALID_ARGUMENT', /a path that begins with \//],
  ])('refuses %j', async (text, code, message) => {
    const file = join(temporaryFolder(), 'mix.jsonl');
    writeFileSync(file, text);
    await expect(fileMix(file, 1)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
  });

  it('refuses a mix of no users', () => {
    expect(() => userMix([], shaping)).toThrow(/no user id to ask for/);
  });
});

describe('plan', () => {
  it.each([
    [{ rate: 0 }, /--rate: expected a number from 0.01 to 10000000, received 0/],
    [{ rate: Number.NaN }, /--rate/],
    [{ rate: 10, closed: 3 }, /one of --rate, --ramp and --closed/],
    [{ ramp: '10:5:1' }, /from:to:step/],
    [{ ramp: '1:1000:1' }, /at most 100 steps/],
    [{ closed: 0.5 }, /--closed: expected an integer/],
    [{ arrivals: 'bursts' }, /--arrivals: expected uniform or poisson/],
    [{ seconds: 0 }, /--duration/],
    [{ workers: 0 }, /--workers/],
  ])('refuses %j', (request, message) => {
    expect(() => planLoad({ keep: 0, ...request })).toThrow(message);
  });

  it('makes a ramp of segments, and a thread for each 20,000 requests a second', () => {
    const { loop, workers } = planLoad({ keep: 0, ramp: '100:300:100', seconds: 2, workers: 2 });
    expect(loop).toMatchObject({ kind: 'open', segments: [100, 200, 300].map((rate) => ({ rate, seconds: 2 })) });
    expect(workers).toBe(2);
    expect(planLoad({ keep: 0, rate: 100 }).workers).toBe(1);
  });
});

describe('answers', () => {
  it('reads reasons and generation without parsing, and is not fooled by ids', () => {
    const tricky = JSON.stringify({
      items: [{ id: '"degraded":["x"],"generation":"no"' }],
      generation: 'g-1',
      degraded: ['cold_start', 'rerank_timeout'],
    });
    expect(degradedReasons(Buffer.from(tricky))).toEqual(['cold_start', 'rerank_timeout']);
    expect(generationOf(Buffer.from(tricky))).toBe('g-1');
    const batch = JSON.stringify({ responses: [{ degraded: [] }, { degraded: ['a'] }, { degraded: ['b'] }] });
    expect(degradedReasons(Buffer.from(batch))).toEqual(['a', 'b']);
    expect(generationOf(Buffer.from('{}'))).toBeUndefined();
  });

  it('names errors by their code, else by the status', () => {
    expect(errorCodeOf(503, Buffer.from('{"code":"BELFRY_OVERLOADED"}'))).toBe('BELFRY_OVERLOADED');
    expect(errorCodeOf(502, Buffer.from('<html>'))).toBe('http_502');
  });
});

describe('recording', () => {
  it('crosses a thread and merges without losing a count', () => {
    const one = () => {
      const window = newWindow();
      window.offered = 3;
      window.ok = 2;
      addCount(window.errors, 'timeout');
      recordMs(window.latency, 1.5);
      recordMs(window.latency, 250);
      const lag = newHistogram();
      recordMs(lag, 0.002);
      return {
        windows: [newWindow(), window],
        lag,
        service: newHistogram(),
        refused: newHistogram(),
        kept: [],
        waited: 1,
        connections: 2,
        generations: { g: 2 },
        bytes: 10,
        busy: 0.5,
      };
    };
    const sum = mergeRecordings([one(), unpackRecording(structuredClone(packRecording(one())))]);
    expect(sum.windows.map(({ offered }) => offered)).toEqual([0, 6]);
    expect(sum).toMatchObject({ waited: 2, connections: 4, generations: { g: 4 }, bytes: 20, busy: 0.5 });
    const { latency, errors } = sum.windows[1]!;
    expect(errors).toEqual({ timeout: 2 });
    expect(latency.totalCount).toBe(4);
    expect(percentileMs(latency, 100)).toBeCloseTo(250, 0);
    expect(percentileMs(newHistogram(), 99)).toBeNull();
  });

  it('finds the knee: the last rate before the first that is not served well', () => {
    const step = (rate: number, inDeadline: number): Step => {
      const window = newWindow();
      window.offered = 1000;
      window.inDeadline = inDeadline;
      return { rate, ...measuresOf([window], 1000) };
    };
    expect(kneeOf([step(1, 1000), step(2, 991), step(3, 980), step(4, 700)])).toEqual({ rate: 2, isFound: true });
    expect(kneeOf([step(1, 1000), step(2, 991), step(3, 980)])).toEqual({ rate: 2, isFound: true });
    // A stall of something else between two good steps is no knee.
    expect(kneeOf([step(1, 1000), step(2, 900), step(3, 1000)])).toEqual({ rate: 3, isFound: false });
    expect(kneeOf([step(1, 1000)])).toEqual({ rate: 1, isFound: false });
    expect(kneeOf([step(1, 0)])).toEqual({ rate: null, isFound: true });
  });

  it('ends a ramp after two bad steps in a row, and keeps both', () => {
    const counts = (...good: number[]) => good.map((inDeadline) => ({ offered: 100, inDeadline }));
    expect(stepsPastKnee(counts(100, 99, 98))).toBeUndefined();
    expect(stepsPastKnee(counts(100, 98, 99, 98))).toBeUndefined();
    expect(stepsPastKnee(counts(100, 98, 97))).toBe(3);
    expect(stepsPastKnee(counts(0, 0, 0))).toBe(2);
  });
});

describe('the server’s own metrics', () => {
  it('are read by their name and labels', () => {
    const text = [
      '# HELP process_cpu_seconds_total of the process',
      'process_cpu_seconds_total 12.5',
      'belfry_event_loop_delay_seconds{quantile="0.5"} 0.001',
      'belfry_event_loop_delay_seconds{quantile="0.99"} 0.25',
      'belfry_event_loop_delay_seconds_more{quantile="1"} 9',
      'process_resident_memory_bytes NaN',
    ].join('\n');
    expect(readGauges(text)).toEqual({ cpuSeconds: 12.5, loopP50: 0.001, loopP99: 0.25 });
  });
});

describe('recall of answers', () => {
  const mixOf = (body: object, truth: string[][][] = []) => ({
    requests: [{ path: '/retrieve', method: 'POST' as const, headers: [], body: JSON.stringify(body) }],
    order: Uint32Array.of(0),
    truth,
    description: '',
  });
  const answer = (...ids: string[]) => [
    { request: 0, text: JSON.stringify({ items: ids.map((id) => ({ id })), generation: 'g' }) },
  ];
  const exact = (scores: Record<string, number>) => ({
    ask: async (generation: string) =>
      generation === 'g' ? Object.entries(scores).map(([id, score]) => ({ id, score })) : undefined,
  });

  it('counts an item that ties at the k-th place as a hit, and never one twice', async () => {
    const judge = exact({ a: 3, b: 2, c: 2, d: 2, e: 1 });
    const recallOf = async (...ids: string[]) => (await judgeAnswers(answer(...ids), mixOf({ k: 2 }), judge))?.recall;
    expect(await recallOf('a', 'd')).toBe(1);
    expect(await recallOf('a', 'e')).toBe(0.5);
    expect(await recallOf('d', 'd')).toBe(0.5);
    expect(await recallOf()).toBe(0);
  });

  it('says what it could not judge', async () => {
    const judge = exact({ a: 1 });
    expect(await judgeAnswers(answer('a'), mixOf({ k: 1 }), undefined)).toBeUndefined();
    const reranked = [{ request: 0, text: '{"items":[{"id":"a"}],"generation":"g","models":{"reranker":"dlrm@1"}}' }];
    expect(await judgeAnswers(reranked, mixOf({ k: 1, rerank: true }, [[['a']]]), undefined)).toMatchObject({
      recall: null,
      judged: 0,
      note: expect.stringContaining('1 re-ranked ones are not judged'),
    });
    const gone = [{ request: 0, text: '{"items":[{"id":"a"}],"generation":"other"}' }];
    expect((await judgeAnswers(gone, mixOf({ k: 1 }), judge))?.note).toContain('1 named a generation that is gone');
  });

  it('judges the candidates behind a re-ranked answer by the exact rank of the deepest one', async () => {
    // Candidates that the search found: a c e f; b and d are missed, so e stands at 3 of 5.
    const judge = exact({ a: 9, b: 8, c: 7, d: 6, e: 5, f: 4 });
    const behind = async (...items: [id: string, rank: number][]) => {
      const text = JSON.stringify({
        items: items.map(([id, retrieval_rank]) => ({ id, retrieval_rank })),
        generation: 'g',
        models: { reranker: 'dlrm@1' },
      });
      return (await judgeAnswers([{ request: 0, text }], mixOf({ k: 2, rerank: true }), judge))?.behind;
    };
    expect(await behind(['e', 3], ['a', 1])).toEqual([3 / 5]);
    expect(await behind(['a', 1])).toEqual([1]);
    expect(await behind(['x', 4])).toEqual([4 / 7]); // behind all that the exact list holds
    // Items that tie stand in any order.
    const tied = exact({ a: 3, b: 2, c: 2, d: 2 });
    const text = JSON.stringify({
      items: [{ id: 'b', retrieval_rank: 3 }],
      generation: 'g',
      models: { reranker: 'r' },
    });
    expect((await judgeAnswers([{ request: 0, text }], mixOf({ k: 1, rerank: true }), tied))?.behind).toEqual([1]);
    // A re-ranker that failed left retrieval order, which is judged as any other.
    expect(await judgeAnswers(answer('a', 'b'), mixOf({ k: 2, rerank: true }), judge)).toMatchObject({
      recall: 1,
      behind: [],
    });
  });

  it('takes the truth that a mix gives', async () => {
    const judged = await judgeAnswers(answer('a', 'x'), mixOf({ k: 2 }, [[['a', 'b', 'x']]]), undefined);
    expect(judged).toMatchObject({ recall: 0.5, judged: 1 });
  });
});
