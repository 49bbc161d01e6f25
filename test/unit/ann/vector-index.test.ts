import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { ANN_BOUNDS } from '../../../src/ann/params.js';
import { type SearchOptions, VectorIndex, type VectorIndexOptions } from '../../../src/ann/vector-index.js';
import { errorOf } from '../../support/errors.js';
import { naiveRank, randomVectors } from '../../support/judge.js';
import { encode, writeNpy } from '../../support/npy.js';

const folder = mkdtempSync(join(tmpdir(), 'belfry-index-'));
afterAll(() => rmSync(folder, { recursive: true }));

const dims = 12;
const data = randomVectors(300, dims, 1);
const query = randomVectors(1, dims, 2);
const open = (options: Partial<VectorIndexOptions> = {}) =>
  VectorIndex.open({ vectors: { data, dims }, metric: 'ip', ...options });

describe('search', () => {
  it('finds the same from memory and from a file, one query and many', async () => {
    const path = writeNpy(join(folder, 'v.npy'), { shape: [300, dims], data: encode(data, '<f4') });
    const fromFile = await VectorIndex.open({ path, metric: 'ip' });
    const fromMemory = await open();
    const truth = naiveRank('ip', query, data).slice(0, 10);
    for (const index of [fromFile, fromMemory]) {
      expect([index.rows, index.dims, index.metric]).toEqual([300, dims, 'ip']);
      for (const exact of [true, false]) {
        const hits = await index.search(query, { exact });
        expect(hits.k).toBe(10);
        expect([...hits.rows]).toEqual(truth.map((hit) => hit.row));
        expect([...hits.counts]).toEqual([10]);
        hits.scores.forEach((score, i) => expect(score).toBeCloseTo(truth[i]?.score as number, 5));
        const two = await index.search([data.slice(0, dims), query], { exact });
        expect([...two.rows.subarray(10)]).toEqual([...hits.rows]);
      }
    }
  });

  it('cuts large batches into parts with the same answer', async () => {
    const index = await open();
    const count = Math.floor(ANN_BOUNDS.queryValuesPerCall.default / dims) + 100;
    const many = randomVectors(count, dims, 3);
    const hits = await index.search(many, { k: 2, exact: true });
    expect(hits.counts.length).toBe(count);
    const last = await index.search(many.slice(-dims), { k: 2, exact: true });
    expect([...hits.rows.subarray(-2)]).toEqual([...last.rows]);
    many[(count - 1) * dims] = Number.NaN;
    expect(await errorOf(() => index.search(many))).toBe(
      `BELFRY_INVALID_QUERY_VECTOR query: expected finite numbers, received NaN in query ${count - 1}, dim 0`,
    );
  });

  it('filters and excludes', async () => {
    const index = await open();
    const filter = new Uint8Array(38);
    filter[0] = 0b1001_0110;
    expect([...(await index.search(query, { filter })).rows].slice(0, 4).sort()).toEqual([1, 2, 4, 7]);
    expect((await index.search(query, { filter, exclude: [1, 7] })).counts[0]).toBe(2);
    const best = (await index.search(query, { k: 1 })).rows[0] as number;
    expect((await index.search(query, { k: 1, exclude: [best] })).rows[0]).not.toBe(best);
  });

  it('a close while searches run lets them end; later ones are refused', async () => {
    const index = await open();
    const running = Array.from({ length: 20 }, () => index.search(query));
    index.close();
    index.close();
    expect((await Promise.all(running)).every((hits) => hits.counts[0] === 10)).toBe(true);
    expect(await errorOf(() => index.search(query))).toBe('BELFRY_CLOSED NativeIndex was used after close');
  });

  it('zero queries have a meaning for distances only', async () => {
    const zero = new Float32Array(dims);
    expect((await (await open({ metric: 'l2' })).search(zero)).counts[0]).toBe(10);
    for (const metric of ['ip', 'cosine'] as const) {
      expect(await errorOf(async () => (await open({ metric })).search(zero))).toBe(
        `BELFRY_INVALID_QUERY_VECTOR query: expected a vector other than zero (${metric} scores every item 0 then), received zeros in query 0`,
      );
    }
  });
});

describe('bad input', () => {
  it.each<[Partial<SearchOptions>, string]>([
    [{ k: 0 }, 'k: expected an integer from 1 to 10000, received 0'],
    [{ k: 10_001 }, 'k: expected an integer from 1 to 10000, received 10001'],
    [{ k: Number.NaN }, 'k: expected an integer from 1 to 10000, received NaN'],
    [{ exclude: [300] }, 'exclude: expected row numbers below 300, received 300'],
    [{ exclude: [-1] }, 'exclude: expected row numbers below 300, received -1'],
    [{ filter: new Uint8Array(37) }, 'filter: expected 38 bytes, one bit per row, received 37'],
  ])('search %o', async (options, message) => {
    const index = await open();
    expect(await errorOf(() => index.search(query, options))).toBe(`BELFRY_INVALID_ARGUMENT ${message}`);
  });

  it('dims', async () => {
    const index = await open();
    expect(await errorOf(() => index.search(new Float32Array(13)))).toBe(
      'BELFRY_DIMS_MISMATCH query: expected 12 dims (those of the index), received 13',
    );
    expect(await errorOf(() => index.search([query, new Float32Array(11)]))).toBe(
      'BELFRY_DIMS_MISMATCH query: expected 12 dims (those of the index), received 11 in query 1',
    );
    expect(await errorOf(() => index.search(new Float32Array()))).toBe(
      'BELFRY_DIMS_MISMATCH query: expected 12 dims (those of the index), received 0',
    );
    expect(await errorOf(() => index.search([1, 2] as unknown as Float32Array[]))).toBe(
      'BELFRY_INVALID_ARGUMENT query.0: expected a Float32Array, received "number"',
    );
  });

  it.each<[object, string]>([
    [{ vectors: undefined }, 'path: expected either path or vectors, received "neither"'],
    [{ path: 'x.npy' }, 'path: expected either path or vectors, received "both"'],
    [{ metric: 'dot' }, 'metric: expected ip, cosine, l2, received "dot"'],
    [{ threads: -1 }, 'threads: expected an integer from 0 to 1024, received -1'],
    [{ vectors: { data, dims: 7 } }, 'vectors.data: expected a multiple of 7 values (dims), received 3600'],
    [{ vectors: { data, dims: 0 } }, 'vectors.dims: expected an integer from 1 to 4096, received 0'],
    [{ vectors: { data: [1], dims: 1 } }, 'vectors.data: expected a Float32Array, received "object"'],
  ])('open %o', async (options, message) => {
    expect(await errorOf(() => open(options))).toBe(`BELFRY_INVALID_ARGUMENT ${message}`);
  });

  it('every bound has a default inside it and a reason', () => {
    for (const [name, bound] of Object.entries(ANN_BOUNDS)) {
      expect(bound.default, name).toBeGreaterThanOrEqual(bound.min);
      expect(bound.default, name).toBeLessThanOrEqual(bound.max);
      expect(bound.why, name).not.toBe('');
    }
  });
});
