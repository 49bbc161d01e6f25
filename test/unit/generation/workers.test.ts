/** What is read in worker threads is what would be read in place. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ByteWriter, parquetWrite } from 'hyparquet-writer';
import { once } from 'node:events';
import { getPriority } from 'node:os';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { IdMap } from '../../../src/ann/ids.js';
import { loadIds } from '../../../src/generation/load-ids.js';
import { loadTable } from '../../../src/generation/load-table.js';
import { expectError } from '../../support/expect-error.js';
import { npyFile, temporaryFolder } from '../../support/folders.js';

const ROWS = 20_000;

describe('ids of a generation', () => {
  it('are read in a worker', async () => {
    const folder = temporaryFolder();
    const list = Array.from({ length: ROWS }, (_, row) => `item ${(row * 7919) % ROWS} é`);
    writeFileSync(join(folder, 'item_ids.txt'), list.join('\n'));
    const ids = await loadIds(folder, 'item_ids.txt', ROWS, 'items.npy', { isBackground: true });
    for (const row of [0, 1, 1_234, ROWS - 1]) {
      expect(ids.idOf(row)).toBe(list[row]);
      expect(ids.rowOf(list[row]!)).toBe(row);
    }
    expect([ids.kind, ids.size, ids.rowOf('item 3'), ids.rowOf(3)]).toEqual(['string', ROWS, undefined, undefined]);
  });

  it('may be integers up to 2^53', async () => {
    const folder = temporaryFolder();
    const values = BigInt64Array.from({ length: 5_000 }, (_, row) => BigInt(row) * 1_801_439_850_948n);
    writeFileSync(join(folder, 'item_ids.npy'), npyFile(values, [values.length]));
    const ids = await loadIds(folder, 'item_ids.npy', 5_000, 'items.npy');
    for (const [row, value] of values.entries()) {
      expect(ids.idOf(row)).toBe(Number(value));
      expect(ids.rowOf(Number(value))).toBe(row);
    }
    expect([ids.rowOf(1), ids.rowOf('0'), ids.rowOf(0.5), ids.rowOf(Number.NaN), ids.rowOf(-1)]).toEqual([
      undefined,
      undefined,
      undefined,
      undefined,
      undefined,
    ]);
  });

  it('fail with the code and the words of the reader', async () => {
    const folder = temporaryFolder();
    const lines = Array.from({ length: 2_000 }, (_, row) => `item-${row}`);
    writeFileSync(join(folder, 'item_ids.txt'), [...lines, 'item-7'].join('\n'));
    await expectError(
      () => loadIds(folder, 'item_ids.txt', 2_001, 'items.npy'),
      'BELFRY_DUPLICATE_ID',
      'item_ids.txt: id "item-7" stands in row 7 and in row 2000; each id must be there once',
    );
    const stop = new AbortController();
    stop.abort(new Error('stopping'));
    await expect(loadIds(folder, 'item_ids.txt', 2_001, 'items.npy', { signal: stop.signal })).rejects.toThrow(
      'stopping',
    );
  });
});

describe('ids as shared memory', () => {
  it.each<[string, string[]]>([
    ['ASCII', ['a', 'b', 'ab', 'ba', 'abc']],
    ['beyond ASCII', ['é', 'e', '\uFFFD', '😀', '😀😀', 'x'.repeat(256), '漢'.repeat(256)]],
  ])('%s', (_name, list) => {
    const ids = IdMap.of(structuredClone(IdMap.fromList(list, 'list').data));
    expect(ids.all()).toEqual(list);
    for (const [row, id] of list.entries()) expect(ids.rowOf(id)).toBe(row);
    // Half a pair is written as U+FFFD, which is an id of the second list.
    for (const other of ['', 'c', '\uD83D', 'x'.repeat(257), '漢'.repeat(255)])
      expect(ids.rowOf(other)).toBeUndefined();
  });
});

describe('a feature table of a generation', () => {
  const folder = (): string => {
    const at = temporaryFolder();
    const writer = new ByteWriter();
    const rows = Array.from({ length: ROWS }, (_, row) => row);
    void parquetWrite({
      writer,
      columnData: [
        { name: 'id', data: rows.map((row) => `item-${ROWS - row}`), type: 'STRING' },
        { name: 'title', data: rows.map((row) => `title of item-${ROWS - row}`), type: 'STRING' },
        { name: 'price', data: rows.map((row) => row / 2), type: 'DOUBLE' },
      ],
    });
    writeFileSync(join(at, 'items.parquet'), writer.getBytes());
    return at;
  };

  it('is read, checked and brought into the order of the ids', async () => {
    const path = join(folder(), 'items.parquet');
    const ids = IdMap.fromList(
      Array.from({ length: ROWS }, (_, row) => `item-${row}`),
      'ids',
    );
    const table = await loadTable(path, 'items.parquet', ids, { isBackground: true });
    expect(table.rows).toBe(ROWS);
    expect(table.featuresOf('item-5')).toEqual({ title: 'title of item-5', price: (ROWS - 5) / 2 });
    expect(table.featuresAt(0)).toEqual({}); // item-0 has no row
    expect(table.columns).toEqual([
      { name: 'title', kind: 'string' },
      { name: 'price', kind: 'number' },
    ]);

    const own = await loadTable(path, 'items.parquet', undefined);
    expect([own.idOf(0), own.rowOf('item-1'), own.valueAt(0, 'title')]).toEqual([
      `item-${ROWS}`,
      ROWS - 1,
      `title of item-${ROWS}`,
    ]);
  });

  it('is refused with the words of its reader', async () => {
    const at = temporaryFolder();
    writeFileSync(join(at, 'items.parquet'), 'no table');
    await expectError(
      () => loadTable(join(at, 'items.parquet'), 'features/items.parquet', undefined),
      'BELFRY_FEATURES_INVALID',
      /features\/items\.parquet: its footer cannot be read as Parquet/,
    );
  });
});

describe('a worker', () => {
  const entry = fileURLToPath(new URL('../../../dist/generation/worker-entry.js', import.meta.url));
  const priorityOf = async (isBackground: boolean): Promise<unknown> => {
    const told = "import { getPriority } from 'node:os'; import { parentPort } from 'node:worker_threads';";
    const module = `data:text/javascript,${encodeURIComponent(`${told} parentPort.postMessage(getPriority());`)}`;
    const worker = new Worker(entry, { workerData: { task: undefined, isBackground, module } });
    const [priority] = (await once(worker, 'message')) as unknown[];
    await worker.terminate();
    return priority;
  };

  it.runIf(process.platform === 'linux')('has its priority before its code is read', async () => {
    expect(await priorityOf(false)).toBe(getPriority());
    expect(await priorityOf(true)).toBe(Math.max(15, getPriority()));
    expect(getPriority()).toBeLessThan(15); // that of this thread is left alone
  });
});
