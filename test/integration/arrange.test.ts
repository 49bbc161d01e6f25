/** Diversity, caps, boosts, pins and the score cut-off against a judge that works from the definitions. */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeModelsFolder, randomValues, temporaryFolder } from '../support/folders.js';
import { seeded } from '../support/judge.js';
import { type Service, startService } from '../support/service.js';

const [DIMS, ITEMS] = [8, 400];
const items = { data: randomValues(ITEMS * DIMS, 11), dims: DIMS };
const itemIds = Array.from({ length: ITEMS }, (_, row) => `i${row}`);
// The best items of most users are of one section, and some items have none.
const section = (row: number) => (row % 40 === 0 ? null : row % 10 < 8 ? 'net' : `s${row % 30}`);
const tags = (row: number) => (row % 5 === 0 ? [] : [`t${row % 3}`, `u${row % 4}`]);
const optional = { repetition_type: 'OPTIONAL' } as const;
const table = new Uint8Array(
  parquetWriteBuffer({
    columnData: [
      { name: 'id', data: itemIds },
      { name: 'section', data: itemIds.map((_, row) => section(row)) },
      { name: 'tags', data: itemIds.map((_, row) => tags(row)) },
      { name: 'price', data: itemIds.map((_, row) => row) },
    ],
    schema: [
      { name: 'root', num_children: 4 },
      { name: 'id', type: 'BYTE_ARRAY', converted_type: 'UTF8', ...optional },
      { name: 'section', type: 'BYTE_ARRAY', converted_type: 'UTF8', ...optional },
      { name: 'tags', num_children: 1, converted_type: 'LIST', ...optional },
      { name: 'list', repetition_type: 'REPEATED', num_children: 1 },
      { name: 'element', type: 'BYTE_ARRAY', converted_type: 'UTF8', ...optional },
      { name: 'price', type: 'DOUBLE', ...optional },
    ],
  }),
);
const MODULE = `export async function rerank(request, candidates) {
  if (request.userId === 'broken') throw new Error('down');
  return candidates.map((candidate) => -candidate.rank);
}`;

interface Item {
  id: string;
  score: number;
  retrieval_score: number;
  retrieval_rank?: number;
  pinned?: true;
}
let folder: string;
let service: Service;
beforeAll(async () => {
  folder = temporaryFolder({ keep: true });
  const rerankModule = join(folder, 'rerank.mjs');
  writeFileSync(rerankModule, MODULE);
  makeModelsFolder(folder, {
    items,
    users: { data: randomValues(2 * DIMS, 12), dims: DIMS },
    files: {
      'embeddings/item_ids.txt': itemIds.join('\n'),
      'embeddings/user_ids.txt': 'ann\nbroken',
      'features/items.parquet': table,
    },
  });
  service = await startService(folder, {
    upserts: {},
    load: { rerankModule },
    settings: {
      rules: {
        home: { caps: [{ field: 'section', max: 2 }], pins: [{ id: 'i7', position: 2 }] },
        default: { min_score: -1e6 },
      },
    },
  });
});
afterAll(async () => {
  await service.close();
  rmSync(folder, { recursive: true, force: true });
});

const query = (seed: number) => [...randomValues(DIMS, seed)];
async function ask(body: object) {
  const response = await service.post('/retrieve', { exact: true, explain: true, ...body });
  expect(response.statusCode, response.body).toBe(200);
  return response.json() as {
    items: Item[];
    degraded: string[];
    returned: number;
    explain: { rules: Record<string, unknown>; depth: number };
  };
}
const ids = ({ items: list }: { items: Item[] }) => list.map(({ id }) => id);
const vectorOf = (id: string) => items.data.subarray(Number(id.slice(1)) * DIMS, (Number(id.slice(1)) + 1) * DIMS);
const dot = (a: ArrayLike<number>, b: ArrayLike<number>) => Array.from(a).reduce((sum, x, d) => sum + x * b[d]!, 0);
const cosine = (a: ArrayLike<number>, b: ArrayLike<number>) => dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
const ranking = (embedding: number[]) =>
  itemIds.map((id) => ({ id, score: dot(embedding, vectorOf(id)) })).sort((a, b) => b.score - a.score);
const rowOf = (id: string) => Number(id.slice(1));

describe('diversity', () => {
  it.each([0.2, 0.6, 1])('%d is maximal marginal relevance over the candidates', async (diversity) => {
    for (const seed of [1, 2, 3]) {
      const embedding = query(seed);
      const answer = await ask({ embedding, k: 12, candidates: 50, diversity });
      const candidates = ranking(embedding).slice(0, 50);
      const [most, least] = [candidates[0]!.score, candidates.at(-1)!.score];
      const valueOf = ({ id, score }: { id: string; score: number }, list: string[]) =>
        ((1 - diversity) * (score - least)) / (most - least) -
        diversity * (list.length === 0 ? -1 : Math.max(...list.map((other) => cosine(vectorOf(id), vectorOf(other)))));
      const list: string[] = [];
      for (const id of ids(answer)) {
        const left = candidates.filter((one) => !list.includes(one.id));
        const best = Math.max(...left.map((one) => valueOf(one, list)));
        expect(
          valueOf(
            left.find((one) => one.id === id)!,
            list,
          ),
        ).toBeCloseTo(best, 4);
        list.push(id);
      }
      expect(answer.explain).toMatchObject({ depth: 50, rules: { diversity } });
    }
  });

  it('0 is the order by score', async () => {
    const embedding = query(5);
    expect(ids(await ask({ embedding, k: 10, diversity: 0 }))).toEqual(
      ranking(embedding)
        .slice(0, 10)
        .map(({ id }) => id),
    );
  });

  it('reads the vectors of changed items', async () => {
    const embedding = query(6);
    const twin = [...embedding.map((x) => 3 * x)];
    for (const id of ['i1', 'new']) {
      const put = await service.app.inject({ method: 'PUT', url: `/items/${id}`, payload: { embedding: twin } });
      expect(put.statusCode, put.body).toBeLessThan(300);
    }
    expect(ids(await ask({ embedding, k: 2 })).sort()).toEqual(['i1', 'new']);
    const diverse = ids(await ask({ embedding, k: 5, candidates: 100, diversity: 0.7 }));
    expect(diverse.filter((id) => id === 'i1' || id === 'new')).toHaveLength(1);
    for (const id of ['i1', 'new']) await service.app.inject({ method: 'DELETE', url: `/items/${id}` });
    await service.app.inject({
      method: 'PUT',
      url: '/items/i1',
      payload: { embedding: [...vectorOf('i1')], metadata: { section: section(1), tags: tags(1), price: 1 } },
    });
  });
});

describe('caps', () => {
  it('keep the best of each value, and search on until k are there', async () => {
    for (const seed of [1, 2, 3, 4]) {
      const embedding = query(seed);
      const max = 1 + (seed % 2);
      const held = new Map<string, number>();
      const expected: string[] = [];
      for (const { id } of ranking(embedding)) {
        const value = section(rowOf(id));
        const count = value === null ? 0 : (held.get(value) ?? 0);
        if (count === max) continue;
        if (value !== null) held.set(value, count + 1);
        expected.push(id);
      }
      const answer = await ask({ embedding, k: 14, candidates: 14, caps: [{ field: 'section', max }] });
      expect(ids(answer)).toEqual(expected.slice(0, 14));
      expect(answer.degraded).toEqual(expected.length < 14 ? ['fewer_by_caps'] : []);
      expect(answer.explain.rules.further_searches).toBeGreaterThan(0);
    }
  });

  it('say so where no more can be had', async () => {
    const answer = await ask({
      embedding: query(1),
      k: 10,
      filter: { must: [{ field: 'section', eq: 'net' }] },
      caps: [{ field: 'section', max: 3 }],
    });
    expect([answer.returned, answer.degraded]).toEqual([3, ['fewer_by_caps']]);
  });

  it('hold with diversity, filters, re-ranking and pins, and fill the list', async () => {
    const random = seeded(3);
    for (let round = 0; round < 12; round++) {
      const max = 1 + Math.floor(random() * 3);
      const pin = `i${Math.floor(random() * ITEMS)}`;
      const answer = await ask({
        ...(round % 2 === 0 ? { embedding: query(round) } : { user_id: 'ann' }),
        k: 8,
        candidates: 8 + Math.floor(random() * 40),
        diversity: round % 3 === 0 ? 0 : random(),
        rerank: round % 4 < 2,
        filter: { must: [{ field: 'price', gte: 20 }] },
        caps: [
          { field: 'section', max },
          { field: 'tags', max: 4 },
        ],
        pins: [{ id: pin, position: 3 }],
      });
      const list = ids(answer);
      expect(answer.returned).toBe(8);
      expect(new Set(list).size).toBe(8);
      const isPinned = rowOf(pin) >= 20;
      expect(answer.degraded).toEqual(isPinned ? [] : ['pins_left_out']);
      if (isPinned) expect(answer.items[2]).toMatchObject({ id: pin, pinned: true });
      for (const [limit, valueOf] of [
        [max, (row: number) => [section(row)].filter((value) => value !== null)],
        [4, tags],
      ] as const) {
        const held = new Map<string, number>();
        for (const id of list) {
          for (const value of valueOf(rowOf(id))) held.set(value, (held.get(value) ?? 0) + 1);
        }
        for (const [value, count] of held) expect(count, value).toBeLessThanOrEqual(limit);
      }
    }
  });

  it('refuse a column that is not there', async () => {
    const response = await service.post('/retrieve', { user_id: 'ann', caps: [{ field: 'colour', max: 1 }] });
    expect(response.statusCode).toBe(400);
    expect(response.json()).toMatchObject({
      code: 'BELFRY_UNKNOWN_FIELD',
      field: 'caps.0.field',
      message: 'caps.0.field: no column "colour" in features/items.parquet; known: section, tags, price',
    });
  });
});

describe('boosts', () => {
  it('lift and lower whatever the sign of a score, in their order', async () => {
    const embedding = query(2);
    const half = { must: [{ field: 'price', gte: 200 }] };
    const boosted = (change: (score: number, row: number) => number) =>
      ranking(embedding)
        .map(({ id, score }) => ({ id, score: change(score, rowOf(id)) }))
        .sort((a, b) => b.score - a.score)
        .slice(0, 10);
    const all = { embedding, k: 10, candidates: ITEMS };
    for (const [boosts, change] of [
      [[{ filter: half, multiply: 4 }], (s: number, row: number) => (row < 200 ? s : s < 0 ? s / 4 : s * 4)],
      [[{ filter: half, multiply: 0.1 }], (s: number, row: number) => (row < 200 ? s : s < 0 ? s / 0.1 : s * 0.1)],
      [[{ filter: half, add: -50 }], (s: number, row: number) => (row < 200 ? s : s - 50)],
      [
        [
          { filter: half, add: 1 },
          { filter: {}, multiply: 2 },
        ],
        (s: number, row: number) => {
          const sum = row < 200 ? s : s + 1;
          return sum < 0 ? sum / 2 : sum * 2;
        },
      ],
    ] as const) {
      const answer = await ask({ ...all, boosts });
      const expected = boosted(change);
      expect(ids(answer)).toEqual(expected.map(({ id }) => id));
      for (const [at, { score }] of answer.items.entries()) expect(score).toBeCloseTo(expected[at]!.score, 3);
    }
  });

  it.each([
    [{ boosts: [{ filter: {} }] }, 'boosts.0', 'boosts.0: expected either add or multiply, received "neither"'],
    [
      { boosts: [{ filter: { must: [{ field: 'colour', eq: 1 }] }, add: 1 }] },
      'boosts.0.filter.must.0.field',
      'boosts.0.filter.must.0.field: no column "colour"',
    ],
    [{ boosts: [{ filter: {}, multiply: 0 }] }, 'boosts.0.multiply', 'boosts.0.multiply: expected at least 0.001'],
    [{ diversity: 1.5 }, 'diversity', 'diversity: expected at most 1'],
    [
      {
        pins: [
          { id: 'a', position: 1 },
          { id: 'b', position: 1 },
        ],
      },
      'pins.1.position',
      'pins.1.position: expected a place of its own, received 1',
    ],
    [
      {
        pins: [
          { id: 'a', position: 1 },
          { id: 'a', position: 2 },
        ],
      },
      'pins.1.id',
      'pins.1.id: expected an item that is pinned once, received "a"',
    ],
    [{ rules: 'away' }, 'rules', 'rules: expected one of home, default, none, received "away"'],
  ])('%j is refused', async (body, field, message) => {
    const response = await service.post('/retrieve', { user_id: 'ann', ...body });
    expect(response.statusCode).toBe(400);
    expect(response.json().field).toBe(field);
    expect(response.json().message).toContain(message);
  });
});

describe('pins and the cut-off', () => {
  it('pins stand at their places, others close the gaps', async () => {
    const embedding = query(4);
    const plain = ids(await ask({ embedding, k: 6 }));
    const worst = ranking(embedding).at(-1)!;
    const answer = await ask({
      embedding,
      k: 6,
      pins: [
        { id: plain[4], position: 1 },
        { id: worst.id, position: 4 },
        { id: 'i3', position: 7 },
      ],
    });
    expect(ids(answer)).toEqual([plain[4], plain[0], plain[1], worst.id, plain[2], plain[3]]);
    expect(answer.items[3]!.score).toBeCloseTo(worst.score, 4);
    expect(answer.items[3]).not.toHaveProperty('retrieval_rank');
    expect(answer.items[0]).toMatchObject({ retrieval_rank: 5, pinned: true });
    expect(answer.degraded).toEqual([]);
  });

  it('a pin gives way to filters, exclusions and deletions', async () => {
    await service.app.inject({ method: 'DELETE', url: '/items/i99' });
    const answer = await ask({
      embedding: query(4),
      k: 3,
      filter: { must: [{ field: 'price', lt: 300 }] },
      exclude: ['i98'],
      pins: ['i301', 'i98', 'i99', 'nobody'].map((id, at) => ({ id, position: at === 3 ? 1 : at + 1 })).slice(0, 3),
    });
    expect(answer.returned).toBe(3);
    expect(answer.items.every(({ pinned }) => pinned === undefined)).toBe(true);
    expect(answer.degraded).toEqual(['pins_left_out']);
    expect(answer.explain.rules).toMatchObject({ pinned: 0, pins_left_out: ['i301', 'i98', 'i99'] });
  });

  it('min_score cuts what the list is ordered by, not pins', async () => {
    const embedding = query(3);
    const scores = ranking(embedding);
    const min_score = (scores[3]!.score + scores[4]!.score) / 2;
    const answer = await ask({ embedding, k: 10, min_score, pins: [{ id: scores[50]!.id, position: 2 }] });
    expect(answer.returned).toBe(5);
    expect(answer.degraded).toEqual(['fewer_by_min_score']);
    const reranked = await ask({ user_id: 'ann', k: 10, candidates: 20, rerank: true, min_score: -4 });
    expect(reranked.items.map(({ score }) => score)).toEqual([-1, -2, -3, -4]);
  });

  it('min_score of a reranker is not held against retrieval scores', async () => {
    const answer = await ask({ user_id: 'broken', k: 10, rerank: true, min_score: 1e5 });
    expect([answer.returned, answer.degraded]).toEqual([10, ['rerank_skipped', 'min_score_skipped']]);
  });
});

describe('named sets', () => {
  it('hold whole, give way field by field, and can be left', async () => {
    const home = await ask({ user_id: 'ann', k: 5, rules: 'home' });
    expect(home.items[1]).toMatchObject({ id: 'i7', pinned: true });
    expect(home.explain.rules.set).toBe('home');
    const unpinned = await ask({ user_id: 'ann', k: 5, rules: 'home', pins: [] });
    expect(unpinned.explain.rules).toMatchObject({ set: 'home', further_searches: expect.any(Number) });
    expect(unpinned.explain.rules).not.toHaveProperty('pinned');
    expect((await ask({ user_id: 'ann' })).explain.rules).toEqual({ set: 'default', below_min_score: 0 });
    expect((await ask({ user_id: 'ann', rules: 'none' })).explain).not.toHaveProperty('rules');
  });
});
