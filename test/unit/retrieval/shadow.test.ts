/** The shadow lane: bounded, leased, late, closed. */
import { Registry } from 'prom-client';
import { describe, expect, it } from 'vitest';
import { TRAFFIC_DEFAULTS } from '../../../src/config/traffic.js';
import { BelfryError } from '../../../src/errors.js';
import type { Generation } from '../../../src/generation/generation.js';
import { GenerationStore } from '../../../src/generation/store.js';
import type { Reranker, RerankScores } from '../../../src/rerank/reranker.js';
import { type Served, ShadowLane } from '../../../src/retrieval/shadow.js';
import { TrafficMetrics } from '../../../src/telemetry/traffic-metrics.js';

/** A generation, a view of it and a lane, as far as shadows use them; the scorer answers when it is told to. */
function setUp(settings: Partial<typeof TRAFFIC_DEFAULTS> = {}) {
  const registry = new Registry();
  const heard: [string, BelfryError][] = [];
  const closed: string[] = [];
  const generationOf = (id: string) => ({ id, close: async () => void closed.push(id) }) as unknown as Generation;
  const generation = generationOf('g1');
  const store = new GenerationStore(generation);
  let holds = 0;
  const view = {
    generation,
    retain() {
      holds++;
      return this;
    },
    release: () => void holds--,
    tableRows: (rows: Uint32Array) => ({ rows }),
    idOf: (row: number) => row,
    readVectors: () => Promise.resolve(new Float32Array(0)),
  };
  const waiting: ((scores?: number[]) => void)[] = [];
  const reranker = {
    name: 's',
    version: '1',
    needs: { user: [], context: [], userEmbedding: false, itemEmbedding: false },
    checkRequest: () => undefined,
    score: (_: unknown, __: unknown, signal: AbortSignal) =>
      new Promise<RerankScores>((resolve, reject) => {
        signal.addEventListener('abort', () => reject(new BelfryError('BELFRY_DEADLINE_EXCEEDED', 'late')));
        waiting.push((scores) =>
          scores === undefined
            ? reject(new Error('broken'))
            : resolve({ scores: Float32Array.from(scores), nonFinite: 0, queueMs: 0, runMs: 0, gatherMs: 0 }),
        );
      }),
    close: async () => undefined,
  } as unknown as Reranker;
  const lane = new ShadowLane({
    store,
    metrics: new TrafficMetrics(registry),
    settings: { ...TRAFFIC_DEFAULTS, ...settings },
    onProblem: (what, error) => heard.push([what, error]),
  });
  const served = {
    view,
    query: { features: {}, vector: new Float32Array(1) },
    context: undefined,
    ranked: { hits: { rows: Uint32Array.of(4, 5), scores: Float32Array.of(2, 1) } },
    variant: 'main@1',
    k: 2,
  } as unknown as Served;
  const turn = () => new Promise((resolve) => setTimeout(resolve, 5));
  const counts = async () =>
    Object.fromEntries(
      [...(await registry.metrics()).matchAll(/belfry_shadow_total\{[^}]*result="(\w+)"\} (\d+)/g)].map(
        ([, result, count]) => [result!, Number(count)],
      ),
    );
  return { lane, store, served, reranker, waiting, heard, closed, turn, counts, generationOf, holds: () => holds };
}

describe('the shadow lane', () => {
  it('scores one request at a time, holds as many as the queue has room for, and drops the rest', async () => {
    const { lane, served, reranker, waiting, turn, counts, holds } = setUp({ shadow_queue: 2 });
    for (let i = 0; i < 6; i++) lane.offer([reranker], served);
    await turn();
    expect(waiting).toHaveLength(1);
    expect(holds()).toBe(3); // one runs, two wait
    expect(await counts()).toEqual({ dropped: 3 });
    for (let i = 0; i < 3; i++) {
      waiting[i]!([1, 2]);
      await turn();
    }
    expect(await counts()).toEqual({ dropped: 3, scored: 3 });
    expect(holds()).toBe(0);
    lane.offer([reranker], served);
    await turn();
    waiting[3]!([1, 2]);
    await turn();
    expect(await counts()).toMatchObject({ scored: 4 });
  });

  it('keeps the generation open until it is done, and takes none that was replaced', async () => {
    const { lane, store, served, reranker, waiting, closed, turn, counts, generationOf } = setUp();
    lane.offer([reranker], served);
    store.swap(generationOf('g2'));
    lane.offer([reranker], served);
    await turn();
    expect(closed).toEqual([]);
    expect(await counts()).toEqual({ dropped: 1 });
    waiting[0]!([2, 1]);
    await turn();
    expect(closed).toEqual(['g1']);
    expect(await counts()).toEqual({ dropped: 1, scored: 1 });
  });

  it('goes on after a failure, which is told, and after one that is late, which is not', async () => {
    const { lane, served, reranker, waiting, heard, turn, counts, holds } = setUp({ shadow_timeout_ms: 20 });
    lane.offer([reranker], served);
    lane.offer([reranker], served);
    await turn();
    waiting[0]!();
    await new Promise((resolve) => setTimeout(resolve, 60));
    expect(await counts()).toEqual({ failed: 1, late: 1 });
    expect(heard.map(([what, { message }]) => [what, message])).toEqual([['s@1', 'broken']]);
    expect(holds()).toBe(0);
  });

  it('gives up what waits when it closes, and takes no more', async () => {
    const { lane, served, reranker, waiting, turn, holds } = setUp();
    lane.offer([reranker], served);
    lane.offer([reranker], served);
    await turn();
    const closing = lane.close();
    await turn();
    expect(holds()).toBe(1);
    waiting[0]!([1, 2]);
    await closing;
    await turn();
    expect(holds()).toBe(0);
    lane.offer([reranker], served);
    await turn();
    expect(waiting).toHaveLength(1);
  });

  it('takes the share that it is told', async () => {
    const { lane, served, reranker, turn, holds } = setUp({ shadow_share: 0 });
    for (let i = 0; i < 20; i++) lane.offer([reranker], served);
    await turn();
    expect(holds()).toBe(0);
  });
});
