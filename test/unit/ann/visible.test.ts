/** Rows hidden by a bitmap: the same answers as when they are listed as excluded, in every mode, and the lock of a file. */
import { mkdtempSync, rmSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadAddon, type NativeSearch } from '../../../src/ann/addon.js';
import { randomValues } from '../../support/folders.js';

const ROWS = 3000;
const DIMS = 16;

async function makeIndex() {
  const builder = await loadAddon().createMatrix({ rows: ROWS, dims: DIMS });
  builder.append(randomValues(ROWS * DIMS, 7));
  return loadAddon().createIndex({ matrix: builder.finish(), metric: 'ip' });
}

/** Every third row hidden. */
function hideThirds() {
  const bytes = new Uint8Array(Math.ceil(ROWS / 8));
  const hidden: number[] = [];
  for (let row = 0; row < ROWS; row++) {
    if (row % 3 === 0) hidden.push(row);
    else bytes[row >> 3]! |= 1 << (row & 7);
  }
  return { visible: loadAddon().createFilter({ rows: ROWS, bytes }), hidden: Uint32Array.from(hidden) };
}

describe('visible rows', () => {
  it('are those of a search that excludes the others, with exclusions and filters on top', async () => {
    const index = await makeIndex();
    const { visible, hidden } = hideThirds();
    expect(visible.count).toBe(ROWS - hidden.length);
    const queries = randomValues(5 * DIMS, 8);
    const even = new Uint8Array(Math.ceil(ROWS / 8)).fill(0b01010101);
    const few = new Uint8Array(Math.ceil(ROWS / 8)).fill(0xff, 0, 8);
    const more = Uint32Array.of(1, 2, 4, 5, 7);
    const extras: Partial<NativeSearch>[] = [{}, { filter: even }, { filter: few }];
    for (const mode of ['codes', 'exact', 'f32'] as const) {
      for (const extra of extras) {
        const shared = { queries, k: 50, mode, ...extra };
        const bitmap = await index.search({ ...shared, visible, exclude: more });
        const listed = await index.search({ ...shared, exclude: Uint32Array.from([...hidden, ...more]) });
        expect([...bitmap.rows]).toEqual([...listed.rows]);
        expect([...bitmap.scores]).toEqual([...listed.scores]);
        expect([...bitmap.counts]).toEqual([...listed.counts]);
        const found = bitmap.rows.subarray(0, bitmap.counts[0]);
        expect(found.every((row) => row % 3 !== 0 && !more.includes(row))).toBe(true);
      }
    }
    index.close();
  });

  it('must be a bitmap over the rows of the index', async () => {
    const index = await makeIndex();
    const other = loadAddon().createFilter({ rows: 8, bytes: Uint8Array.of(255) });
    await expect(
      index.search({ queries: randomValues(DIMS, 1), k: 1, mode: 'exact', visible: other }),
    ).rejects.toMatchObject({ code: 'BELFRY_INVALID_ARGUMENT', message: expect.stringContaining('3000 rows') });
    expect(() => loadAddon().createFilter({ rows: 9, bytes: Uint8Array.of(255) })).toThrow('bytes: expected 2 bytes');
    index.close();
  });
});

describe('lockFile', () => {
  it('is held by one open file, until that is closed', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'belfry-test-'));
    const [first, second] = [await open(join(folder, 'lock'), 'w'), await open(join(folder, 'lock'), 'w')];
    try {
      expect(loadAddon().lockFile(first.fd)).toBe(true);
      expect(loadAddon().lockFile(first.fd)).toBe(true);
      expect(loadAddon().lockFile(second.fd)).toBe(false);
      await first.close();
      expect(loadAddon().lockFile(second.fd)).toBe(true);
    } finally {
      await second.close();
      rmSync(folder, { recursive: true });
    }
  });
});
