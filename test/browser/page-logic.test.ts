/** What the page computes without a browser: request bodies, the URL, who moved. */
import { describe, expect, it } from 'vitest';
import { defaultColumns } from '../../src/console/web/columns.js';
import type { Info, RetrievedItem } from '../../src/console/web/contract.js';
import { momentBetween, readMetrics } from '../../src/console/web/live-metrics.js';
import { countMoves, slopeOf } from '../../src/console/web/moves.js';
import { compose, curlLine } from '../../src/console/web/request-body.js';
import { defaults, fromHash, toHash, type ViewState } from '../../src/console/web/view-state.js';

const INFO: Info = {
  generation: 'g1',
  created: '2026-01-01T00:00:00Z',
  metric: 'ip',
  dims: 2,
  items: 100,
  users: 10,
  kernel: 'avx2',
  tower: 'two-tower@1.0',
  rerankers: ['dlrm@1.0', 'dcn@0.9'],
  models: [],
  item_columns: [
    { name: 'section', kind: 'string' },
    { name: 'price', kind: 'number' },
    { name: 'tags', kind: 'string_list' },
    { name: 'free', kind: 'boolean' },
  ],
  user_features: [{ name: 'history', kind: 'string_list' }],
  sample_users: ['anna', 'bert'],
  gates: [],
};

const state = (patch: Partial<ViewState>): ViewState => ({ ...defaults(INFO), ...patch });

function bodyOf(patch: Partial<ViewState>) {
  const composed = compose(state(patch), INFO);
  if ('missing' in composed) throw new Error(composed.missing);
  return composed.body;
}
function missingOf(patch: Partial<ViewState>): string {
  const composed = compose(state(patch), INFO);
  return 'missing' in composed ? composed.missing : 'nothing';
}

describe('request body', () => {
  it('is the smallest that says what the page shows', () => {
    expect(bodyOf({})).toEqual({
      user_id: 'anna',
      k: 10,
      rerank: true,
      candidates: 500,
      exclude_seen: true,
      with_metadata: ['section', 'price'],
      timeout_ms: 1000,
      explain: true,
    });
    expect(bodyOf({ rerank: '', excludeSeen: false, columns: [], exact: true })).toEqual({
      user_id: 'anna',
      k: 10,
      exact: true,
      timeout_ms: 1000,
      explain: true,
    });
  });

  it('names a reranker that is not the first', () => {
    expect(bodyOf({ rerank: 'dcn@0.9' }).rerank).toBe('dcn@0.9');
  });

  it('has exactly the source of the tab', () => {
    const sources = { user: 7, features: { history: ['a'] }, items: ['a', 2], embedding: '[0.5, -1]' };
    expect(bodyOf({ ...sources, tab: 'user' })).toMatchObject({ user_id: 7 });
    expect(bodyOf({ ...sources, tab: 'features' })).toMatchObject({ features: { history: ['a'] } });
    expect(bodyOf({ ...sources, tab: 'items' })).toMatchObject({ item_ids: ['a', 2] });
    expect(bodyOf({ ...sources, tab: 'embedding' })).toMatchObject({ embedding: [0.5, -1] });
    for (const tab of ['user', 'features', 'items', 'embedding'] as const) {
      const named = Object.keys(bodyOf({ ...sources, tab })).filter((key) =>
        ['user_id', 'features', 'item_ids', 'embedding'].includes(key),
      );
      expect(named, tab).toHaveLength(1);
    }
  });

  it('says what is missing', () => {
    expect(missingOf({ user: undefined })).toBe('Pick a user, or type an id.');
    expect(missingOf({ tab: 'features' })).toBe('Add what the new user has: one item is enough.');
    expect(missingOf({ tab: 'items' })).toBe('Add one or more items: their mean is the query.');
    expect(missingOf({ tab: 'embedding' })).toBe('Paste a query vector as a JSON list of numbers.');
    expect(missingOf({ tab: 'embedding', embedding: '[0.1,' })).toMatch(/^The embedding is not JSON: /);
    expect(missingOf({ tab: 'embedding', embedding: '[0.1, "x"]' })).toBe(
      'The embedding has to be a list of numbers, such as [0.12, -0.4].',
    );
    expect(missingOf({ filters: [{ field: 'price', op: 'lte', text: 'cheap' }] })).toBe(
      'The filter on price needs a number, not \u201ccheap\u201d.',
    );
  });

  it('turns filter rows into conditions of the type of their column', () => {
    const filters = [
      { field: 'section', op: 'in', text: 'net, web' },
      { field: 'price', op: 'lte', text: ' 20 ' },
      { field: 'free', op: 'eq', text: 'true' },
      { field: 'tags', op: 'all', text: 'a,b' },
      { field: 'tags', op: 'absent', text: '' },
      { field: 'section', op: 'not', text: 'doc' },
      { field: 'section', op: 'eq', text: '' }, // still being filled in
    ];
    expect(bodyOf({ filters }).filter).toEqual({
      must: [
        { field: 'section', in: ['net', 'web'] },
        { field: 'price', lte: 20 },
        { field: 'free', eq: true },
        { field: 'tags', all: ['a', 'b'] },
        { field: 'tags', exists: false },
      ],
      must_not: [{ field: 'section', eq: 'doc' }],
    });
  });

  it('survives a shell', () => {
    const line = curlLine(bodyOf({ user: "o'hara" }), 'http://h:1');
    expect(line).toContain(
      `curl -s http://h:1/retrieve -H 'content-type: application/json' -d '{"user_id":"o'\\''hara"`,
    );
  });
});

describe('URL hash', () => {
  it('gives back every view', () => {
    const views: Partial<ViewState>[] = [
      {},
      { user: '42' },
      { user: 42 },
      { user: '"quoted" & more=#1' },
      { user: undefined },
      { tab: 'features', features: { history: ['a', 'b'], size: 3.5, free: true } },
      { tab: 'items', items: ['a', 7], rerank: '', excludeSeen: false, exact: true },
      { tab: 'embedding', embedding: '[1, 2]', k: 25, candidates: 100, timeoutMs: 50 },
      { filters: [{ field: 'section', op: 'in', text: 'net, web' }], columns: [], open: 'x:y' },
      { rerank: 'dcn@0.9', columns: ['tags'] },
    ];
    for (const patch of views) {
      const view = state(patch);
      expect(fromHash(toHash(view, INFO), INFO)).toEqual(view);
    }
  });

  it('reads a broken hash as the defaults', () => {
    expect(fromHash('', INFO)).toEqual(defaults(INFO));
    expect(fromHash('#features={broken&k=many&where=[1]&show=?', INFO)).toEqual(
      state({ tab: 'features', columns: [] }),
    );
  });
});

describe('who moved', () => {
  const item = (id: string, rank: number): RetrievedItem => ({
    id,
    score: 0,
    retrieval_score: 0,
    retrieval_rank: rank,
  });

  it('joins both orders when only the top was shuffled', () => {
    const slope = slopeOf([item('b', 2), item('a', 1), item('c', 3)]);
    expect(slope).toMatchObject({ before: ['a', 'b', 'c'], entered: [], left: [], slots: 3 });
    expect(slope.lines.map(({ id, fromSlot, toSlot, direction }) => [id, fromSlot, toSlot, direction])).toEqual([
      ['b', 1, 0, 'up'],
      ['a', 0, 1, 'down'],
      ['c', 2, 2, 'same'],
    ]);
  });

  it('puts those from below under the divider, and leaves gaps for those who left', () => {
    const slope = slopeOf([item('z', 40), item('a', 1), item('y', 9)]);
    expect(slope.before).toEqual(['a', undefined, undefined]);
    expect(slope.entered.map(({ id }) => id)).toEqual(['y', 'z']);
    expect(slope.slots).toBe(6);
    expect(slope.lines.map(({ id, fromSlot }) => [id, fromSlot])).toEqual([
      ['z', 5],
      ['a', 0],
      ['y', 4],
    ]);
  });

  it('fills the gaps from the full order', () => {
    const top = [item('z', 40), item('a', 1), item('y', 9)];
    const slope = slopeOf(top, [...top, item('d', 4), item('c', 3), item('b', 2)]);
    expect(slope.before).toEqual(['a', 'b', 'c']);
    expect(slope.left.map(({ item: { id }, place }) => [id, place])).toEqual([
      ['c', 5],
      ['b', 6],
    ]);
    expect(slope.lines.slice(3).map(({ id, from, to, fromSlot, toSlot }) => [id, from, to, fromSlot, toSlot])).toEqual([
      ['c', 3, 5, 2, 4],
      ['b', 2, 6, 1, 5],
    ]);
  });

  it('counts moves', () => {
    expect(countMoves([item('z', 40), item('b', 2), item('a', 1)])).toEqual({ up: 1, down: 1, same: 1 });
  });
});

describe('columns shown first', () => {
  it('are few and telling', () => {
    expect(defaultColumns(INFO)).toEqual(['section', 'price']);
    expect(defaultColumns({ ...INFO, item_columns: [] })).toEqual([]);
    const others = { ...INFO, item_columns: ['a', 'b', 'c'].map((name) => ({ name, kind: 'string' as const })) };
    expect(defaultColumns(others)).toEqual(['a', 'b']);
  });
});

describe('live numbers', () => {
  const text = (fast: number, slow: number, failed: number, degraded: number) =>
    [
      '# TYPE belfry_request_seconds histogram',
      `belfry_request_seconds_bucket{le="0.001",route="/retrieve",status="200"} ${fast}`,
      `belfry_request_seconds_bucket{le="0.002",route="/retrieve",status="200"} ${fast + slow}`,
      `belfry_request_seconds_bucket{le="+Inf",route="/retrieve",status="200"} ${fast + slow}`,
      `belfry_request_seconds_count{route="/retrieve",status="200"} ${fast + slow}`,
      `belfry_request_seconds_count{route="/retrieve",status="503"} ${failed}`,
      'belfry_request_seconds_bucket{le="0.001",route="/console/info",status="200"} 999',
      'belfry_request_seconds_count{route="/console/info",status="200"} 999',
      `belfry_degraded_total{reason="cold_start"} ${degraded}`,
      'belfry_event_loop_delay_seconds{quantile="0.5"} 0.001',
      'belfry_event_loop_delay_seconds{quantile="0.99"} 0.004',
    ].join('\n');

  it('are rates and percentiles of what happened between two readings', () => {
    const before = readMetrics(text(100, 0, 1, 5), 1000);
    const moment = momentBetween(before, readMetrics(text(150, 50, 3, 9), 3000));
    expect(moment).toMatchObject({ perSecond: 51, failedPerSecond: 1, degradedPerSecond: 2, loopMs: 4 });
    expect(moment?.p50Ms).toBeCloseTo(1, 9); // half of the 100 new answers are below 1 ms
    expect(moment?.p99Ms).toBeCloseTo(1.98, 9);
    expect(moment?.recall).toBeUndefined();
    expect(readMetrics(`${text(1, 0, 0, 0)}\nbelfry_recall_live 0.987`, 0).recall).toBe(0.987);
  });

  it('say nothing of an idle server, and begin anew with one that was started anew', () => {
    const before = readMetrics(text(100, 0, 1, 5), 1000);
    expect(momentBetween(before, { ...before, at: 3000 })).toMatchObject({ perSecond: 0, p50Ms: undefined });
    expect(momentBetween(before, readMetrics(text(3, 0, 0, 0), 3000))).toBeUndefined();
  });
});
