/** What the encoders write is what hyparquet and plain reading find, for every width, kind of id and gap. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { type Chunk, NO_USER, type OutputFormat, type WrittenChunk } from '../../../src/jobs/chunk.js';
import { NpyOutput } from '../../../src/jobs/npy-output.js';
import { packIds, type PackedIds } from '../../../src/jobs/packed-ids.js';
import { ParquetOutput } from '../../../src/jobs/parquet-output.js';
import { bitWidth, packedIndexes, Runs } from '../../../src/jobs/parquet-pages.js';
import type { Id } from '../../../src/types.js';
import { type Candidate, type Candidates, readLists, readLong, readNpyPair } from '../../support/candidates.js';
import { npyFile, temporaryFolder } from '../../support/folders.js';
import { seeded } from '../../support/judge.js';

let folder: string;
beforeEach(() => {
  folder = temporaryFolder();
});

interface Made {
  readonly chunks: Chunk[];
  readonly expected: Map<Id, Candidate[]>;
}

/** Chunks of random answers; a user has 0 to k hits, or no vector. */
function makeChunks(sizes: readonly number[], k: number, rows: number, userOf: (n: number) => Id, seed: number): Made {
  const random = seeded(seed);
  const expected = new Map<Id, Candidate[]>();
  let user = 0;
  const chunks = sizes.map((users) => {
    const chunk = {
      users,
      k,
      counts: new Uint32Array(users),
      rows: new Uint32Array(users * k).fill(0xdead),
      scores: new Float32Array(users * k).fill(Number.NaN),
      ids: Array.from({ length: users }, (_, one) => userOf(user + one)),
    };
    for (let one = 0; one < users; one++, user++) {
      const dice = random();
      chunk.counts[one] = dice < 0.1 ? NO_USER : dice < 0.2 ? 0 : dice < 0.6 ? k : Math.floor(random() * (k + 1));
      const count = chunk.counts[one]!;
      if (count === NO_USER) continue;
      const list: Candidate[] = [];
      for (let place = 0; place < count; place++) {
        const row = Math.floor(random() ** 2 * rows);
        chunk.rows[one * k + place] = row;
        chunk.scores[one * k + place] = Math.fround(random() * 10 - 5);
        list.push({ id: row, score: chunk.scores[one * k + place]! });
      }
      expected.set(userOf(user), list);
    }
    return chunk;
  });
  return { chunks, expected };
}

function write(format: OutputFormat, chunks: readonly Chunk[], paths: readonly string[]): void {
  const files: Uint8Array[][] = format.begin().map((bytes) => [bytes]);
  const size = (parts: readonly Uint8Array[]) => parts.reduce((sum, part) => sum + part.length, 0);
  const written: WrittenChunk[] = chunks.map((chunk) => {
    const starts = files.map(size);
    const { pieces, hits, note } = format.encode(chunk);
    pieces.forEach((list, i) => files[i]!.push(...list));
    return { starts, hits, note: JSON.parse(JSON.stringify(note)) };
  });
  format.end(written).forEach((list, i) => files[i]!.push(...list));
  paths.forEach((path, i) => writeFileSync(path, Buffer.concat(files[i]!)));
}

function renamed(expected: Map<Id, Candidate[]>, idOf: (row: number) => Id, withEmpty: boolean): Candidates {
  const lists = [...expected].filter(([, list]) => withEmpty || list.length > 0);
  return new Map(lists.map(([user, list]) => [user, list.map(({ id, score }) => ({ id: idOf(id as number), score }))]));
}

async function kinds(rows: number): Promise<[name: string, ids: PackedIds, idOf: (row: number) => Id][]> {
  const text = join(folder, 'ids.txt');
  // A byte order mark, a carriage return and a missing last newline are no part of an id; letters of four bytes are.
  const lines = Array.from({ length: rows }, (_, row) => (row % 3 === 0 ? `ü𝄞-${row}` : `item ${row}`));
  writeFileSync(text, `\uFEFF${lines.join('\r\n')}`);
  const npy = join(folder, 'ids.npy');
  const big = (row: number) => 2 ** 40 + 7 * row;
  writeFileSync(
    npy,
    npyFile(
      BigInt64Array.from({ length: rows }, (_, row) => BigInt(big(row))),
      [rows],
    ),
  );
  return [
    ['strings', await packIds(text), (row) => lines[row]!],
    ['integers', await packIds(npy), big],
    ['rows', await packIds(undefined), (row) => row],
  ];
}

describe('Parquet', () => {
  it.each([
    [1, 1, [1]],
    [3, 1, [5, 1]],
    [7, 2, [9, 9, 2]],
    [20, 300, [40, 40, 13]],
    [100, 70_000, [300, 300, 7]],
  ])('k %i of %i items in chunks of %j users', async (k, rows, sizes) => {
    for (const [name, items, idOf] of await kinds(rows)) {
      for (const userKind of ['integer', 'string'] as const) {
        const userOf = (n: number): Id => (userKind === 'integer' ? 2 ** 33 + 3 * n : `user ${n} é`);
        const { chunks, expected } = makeChunks(sizes, k, rows, userOf, k + rows);
        const common = { userKind, items, itemRows: rows, createdBy: 'test', facts: { note: 'ok' } };
        const [long, lists] = [join(folder, 'long.parquet'), join(folder, 'lists.parquet')];
        write(new ParquetOutput({ layout: 'long', ...common }), chunks, [long]);
        write(new ParquetOutput({ layout: 'lists', ...common }), chunks, [lists]);
        expect(await readLong(long), `${name} ${userKind}`).toEqual(renamed(expected, idOf, false));
        expect(await readLists(lists), `${name} ${userKind}`).toEqual(renamed(expected, idOf, true));
      }
    }
  });

  it('no chunk, and chunks in which nobody has a hit', async () => {
    const items = await packIds(undefined);
    const none = { users: 3, k: 2, rows: new Uint32Array(6), scores: new Float32Array(6), ids: [1, 2, 3] };
    const empty: Chunk = { ...none, counts: Uint32Array.of(0, NO_USER, 0) };
    const absent: Chunk = { ...none, counts: new Uint32Array(3).fill(NO_USER) };
    const path = join(folder, 'out.parquet');
    const options = { userKind: 'integer', items, itemRows: 9, createdBy: 'test', facts: {} } as const;
    for (const chunks of [[], [absent], [empty, absent]]) {
      write(new ParquetOutput({ layout: 'long', ...options }), chunks, [path]);
      expect(await readLong(path)).toEqual(new Map());
    }
    write(new ParquetOutput({ layout: 'lists', ...options }), [absent, empty], [path]);
    expect(await readLists(path)).toEqual(
      new Map([
        [1, []],
        [3, []],
      ]),
    );
  });
});

describe('.npy', () => {
  it('places users by position; -1 and NaN where nothing is; integer ids, or rows', async () => {
    const [k, rows, sizes] = [6, 50, [11, 11, 4]];
    for (const [name, items, idOf] of await kinds(rows)) {
      const { chunks, expected } = makeChunks(sizes, k, rows, (n) => n, 4);
      const path = join(folder, 'out.npy');
      write(new NpyOutput({ users: 26, k, items }), chunks, [path.replace('.npy', '.scores.npy'), path]);
      const ids = name === 'strings' ? (row: number) => row : idOf;
      const all = renamed(expected, ids, true);
      expect(readNpyPair(path), name).toEqual(Array.from({ length: 26 }, (_, user) => all.get(user) ?? []));
    }
  });
});

describe('pages', () => {
  it('widths', () => {
    expect([0, 1, 2, 3, 4, 5, 256, 257, 1 << 20].map(bitWidth)).toEqual([1, 1, 1, 2, 2, 3, 8, 9, 20]);
  });

  it('bit-packed indexes of every width', () => {
    for (let width = 1; width <= 24; width++) {
      const random = seeded(width);
      const values = Uint32Array.from({ length: 77 }, () => Math.floor(random() * 2 ** width));
      const bytes = packedIndexes(values, width);
      expect([bytes[0], bytes[1]]).toEqual([width, 10 * 2 + 1]);
      const bits = [...bytes.subarray(2)].flatMap((byte) => Array.from({ length: 8 }, (_, bit) => (byte >> bit) & 1));
      const read = (at: number) =>
        bits.slice(at * width, (at + 1) * width).reduce((sum, bit, i) => sum + bit * 2 ** i, 0);
      expect(bits.length).toBe(80 * width);
      expect(Array.from(values, (_, at) => read(at))).toEqual([...values]);
    }
  });

  it('runs join equal values and grow past their first buffer', () => {
    const runs = new Runs(9);
    runs.add(300, 2);
    runs.add(300, 1);
    runs.add(1, 200);
    expect([...runs.finish()]).toEqual([6, 300 & 255, 1, (400 % 128) | 128, 3, 1, 0]);
    const many = new Runs(1);
    for (let i = 0; i < 5_000; i++) many.add(i % 2, 1);
    expect(many.finish().length).toBe(10_000);
  });
});
