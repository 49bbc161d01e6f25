import { parquetWriteBuffer } from 'hyparquet-writer';
import { describe, expect, it } from 'vitest';
import type { StringColumn } from '../../../src/features/feature-column.js';
import { FeatureTable } from '../../../src/features/feature-table.js';
import { expectError } from '../../support/expect-error.js';
import { fileWith, modelPath } from '../../support/model-fixtures.js';

type Columns = Parameters<typeof parquetWriteBuffer>[0]['columnData'];

function parquet(columnData: Columns, options: { rowGroupSize?: number } = {}): string {
  return fileWith('items.parquet', new Uint8Array(parquetWriteBuffer({ columnData, ...options })));
}

const COLUMNS: Columns = [
  { name: 'id', data: ['a', 'b', 'c'], type: 'STRING' },
  { name: 'size', data: [1.5, null, Number.NaN], type: 'DOUBLE' },
  { name: 'count', data: [1n, 2n, 3n], type: 'INT64' },
  { name: 'essential', data: [true, false, null], type: 'BOOLEAN' },
  { name: 'section', data: ['net', null, 'net'], type: 'STRING' },
  { name: 'day', data: [new Date('2026-01-02T00:00:00Z'), null, new Date('2026-01-03T04:05:06Z')], type: 'TIMESTAMP' },
];

describe('reading Parquet', () => {
  it.each([undefined, 2])('gives typed columns, nulls kept, over row groups of %s rows', async (rowGroupSize) => {
    const table = await FeatureTable.open(parquet(COLUMNS, rowGroupSize === undefined ? {} : { rowGroupSize }));
    expect(table.rows).toBe(3);
    expect(table.columns).toEqual([
      { name: 'size', kind: 'number' },
      { name: 'count', kind: 'number' },
      { name: 'essential', kind: 'boolean' },
      { name: 'section', kind: 'string' },
      { name: 'day', kind: 'string' },
    ]);
    expect(table.featuresOf('a')).toEqual({
      size: 1.5,
      count: 1,
      essential: true,
      section: 'net',
      day: '2026-01-02T00:00:00.000Z',
    });
    expect(table.featuresOf('b')).toEqual({ count: 2, essential: false });
    expect(table.featuresOf('c')).toEqual({ count: 3, section: 'net', day: '2026-01-03T04:05:06.000Z' });
    expect(table.featuresOf('z')).toBeUndefined();
    expect(table.valueAt(1, 'section')).toBeNull();
    expect(table.valueAt(1, 'no such column')).toBeNull();
    expect((table.column('section') as StringColumn).dictionary).toEqual(['net']);
  });

  it('reads lists of strings and of numbers, empty ones and null ones', async () => {
    const table = await FeatureTable.open(modelPath('lists.parquet'));
    expect(table.columns).toEqual([
      { name: 'tags', kind: 'string_list' },
      { name: 'weights', kind: 'number_list' },
    ]);
    expect(table.featuresOf('a')).toEqual({ tags: ['x', 'y'], weights: [0.5, 1] });
    expect(table.featuresOf('b')).toEqual({ tags: [], weights: [] });
    expect(table.featuresOf('c')).toEqual({ tags: ['y'], weights: [2] });
    expect(table.ignored).toEqual([
      { name: 'pairs', reason: 'not a string, number, boolean, or list of strings or numbers' },
    ]);
  });

  it.each(['snappy', 'gzip', 'zstd', 'brotli', 'lz4'])('decompresses %s', async (codec) => {
    const table = await FeatureTable.open(modelPath(`codec_${codec}.parquet`));
    expect(table.rows).toBe(200);
    expect(table.featuresOf(199)).toEqual({ name: 'name-3' });
  });

  it('takes whole numbers as ids, and does not mistake "1" for 1', async () => {
    const table = await FeatureTable.open(parquet([{ name: 'id', data: [1n, 2n ** 53n - 1n], type: 'INT64' }]));
    expect(table.ids).toEqual([1, 2 ** 53 - 1]);
    expect(table.rowOf(1)).toBe(0);
    expect(table.rowOf('1')).toBeUndefined();
    expect(table.coverage(['1', 1, 7])).toBe(1);
  });

  it('is an empty table without a path', async () => {
    const table = await FeatureTable.open(undefined);
    expect([table.rows, table.columns, table.featuresOf('a')]).toEqual([0, [], undefined]);
  });
});

describe('row order', () => {
  it('follows the ids of the embeddings; ids without a row are null', async () => {
    const table = (await FeatureTable.open(parquet(COLUMNS))).alignTo(['c', 'z', 'a']);
    expect(table.rows).toBe(3);
    expect([0, 1, 2].map((row) => table.valueAt(row, 'count'))).toEqual([3, null, 1]);
    expect([0, 1, 2].map((row) => table.valueAt(row, 'essential'))).toEqual([null, null, true]);
    expect(table.featuresAt(2, ['section', 'count'])).toEqual({ section: 'net', count: 1 });
    expect(table.featuresOf('z')).toEqual({});
    const lists = (await FeatureTable.open(modelPath('lists.parquet'))).alignTo(['c', 'z', 'a']);
    expect([0, 1, 2].map((row) => lists.valueAt(row, 'tags'))).toEqual([['y'], [], ['x', 'y']]);
    expect([0, 1, 2].map((row) => lists.valueAt(row, 'weights'))).toEqual([[2], [], [0.5, 1]]);
  });
});

describe('tables that are refused', () => {
  const ids = (data: unknown[], type: 'STRING' | 'INT64' | 'DOUBLE' | 'BOOLEAN') =>
    parquet([{ name: 'id', data, type } as Columns[number]]);

  it.each([
    [
      'without ids',
      () => parquet([{ name: 'name', data: ['a'], type: 'STRING' }]),
      'it has no column id; expected one that equals the ids of the embeddings, found name',
    ],
    ['with an id twice', () => ids(['a', 'b', 'a'], 'STRING'), 'id "a" stands in row 0 and in row 2; keep one of them'],
    [
      'with a null id',
      () => ids(['a', null], 'STRING'),
      'column id, row 1: expected a string or a whole number up to 2^53, received null',
    ],
    [
      'with a negative id',
      () => ids([1n, -1n], 'INT64'),
      'column id, row 1: expected a string or a whole number up to 2^53, received -1',
    ],
    [
      'with an id past 2^53',
      () => ids([2n ** 60n], 'INT64'),
      'column id, row 0: expected an integer up to 2^53 (write larger ones as strings), received 1152921504606846976',
    ],
    [
      'with ids of true and false',
      () => ids([true, false], 'BOOLEAN'),
      'column id is a boolean; expected strings or whole numbers',
    ],
    [
      'with infinity',
      () =>
        parquet([
          { name: 'id', data: ['a', 'b'], type: 'STRING' },
          { name: 'x', data: [1, Number.POSITIVE_INFINITY], type: 'DOUBLE' },
        ]),
      'column x, row 1: expected a finite number or null',
    ],
    ['that are not Parquet', () => fileWith('items.parquet', 'id,name\n1,a\n'), 'its footer cannot be read as Parquet'],
    ['that are empty files', () => fileWith('items.parquet', ''), 'its footer cannot be read as Parquet'],
  ])('%s', async (_, make, message) => {
    const error = await expectError(
      FeatureTable.open(make(), { name: 'features/items.parquet' }),
      'BELFRY_FEATURES_INVALID',
      message,
    );
    expect(error.message).toMatch(/^features\/items\.parquet: /);
  });

  it('a missing file', async () => {
    await expectError(
      FeatureTable.open('/nonexistent/items.parquet'),
      'BELFRY_FILE_UNREADABLE',
      /^items\.parquet: .*ENOENT/,
    );
  });

  it('truncated and damaged files: BELFRY_FEATURES_INVALID or a table, never another error', async () => {
    const good = new Uint8Array(parquetWriteBuffer({ columnData: COLUMNS }));
    const codes = new Set<string>();
    const attempt = async (bytes: Uint8Array): Promise<void> => {
      try {
        await FeatureTable.open(fileWith('items.parquet', bytes), { timeoutMs: 2000, heapMb: 256 });
        codes.add('read');
      } catch (error) {
        codes.add((error as { code?: string }).code ?? String(error));
      }
    };
    for (let cut = 1; cut < good.length; cut += 97) await attempt(good.slice(0, cut));
    for (let at = 4; at < good.length - 8; at += 13)
      await attempt(good.map((byte, i) => (i === at ? byte ^ 0xff : byte)));
    codes.delete('read');
    expect([...codes]).toEqual(['BELFRY_FEATURES_INVALID']);
  }, 120_000);

  it('one that leads the decoder into a loop is given up', async () => {
    const bytes = new Uint8Array(
      parquetWriteBuffer({ columnData: [{ name: 'id', data: ['a', 'b', 'c'], type: 'STRING' }] }),
    );
    // The count of values in the header of the first page.
    bytes[20]! ^= 0xff;
    await expectError(
      FeatureTable.open(fileWith('items.parquet', bytes), { timeoutMs: 700, heapMb: 256 }),
      'BELFRY_FEATURES_INVALID',
      'items.parquet: reading it took more than',
    );
  });
});

describe('size', () => {
  it('holds 100,000 rows without an object per row', async () => {
    const rows = 100_000;
    const of = <T>(make: (row: number) => T): T[] => Array.from({ length: rows }, (_, row) => make(row));
    const path = parquet([
      { name: 'id', data: of((row) => `item-${row}`), type: 'STRING' },
      { name: 'size', data: of((row) => row / 2), type: 'DOUBLE' },
      { name: 'section', data: of((row) => `section-${row % 50}`), type: 'STRING' },
    ]);
    const table = await FeatureTable.open(path);
    expect(table.rows).toBe(rows);
    expect(table.featuresOf('item-99999')).toEqual({ size: 49999.5, section: 'section-49' });
    const section = table.column('section') as StringColumn;
    expect(section.codes.byteLength).toBe(4 * rows);
    expect(section.dictionary.length).toBe(50);
  });
});
