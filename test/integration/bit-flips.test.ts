/**
 * X1: 10,000 random bits of a generation flip, one at a time. Each is found by a checksum, or changes nothing that is read;
 * and even what is loaded before its checksums are known never takes the process down. The same for the native loader of the
 * graph under the sanitizers: test/native/index_file_test.cpp.
 */
import { closeSync, openSync, readdirSync, readFileSync, readSync, rmSync, statSync, writeSync } from 'node:fs';
import { join, relative } from 'node:path';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BelfryError } from '../../src/errors.js';
import { buildGeneration } from '../../src/generation/build.js';
import { DataFolder, type PublishedGeneration } from '../../src/generation/data-folder.js';
import { Generation } from '../../src/generation/generation.js';
import { readManifest } from '../../src/generation/manifest.js';
import { readReportFile } from '../../src/generation/report/make-report.js';
import { makeModelsFolder, temporaryFolder } from '../support/folders.js';
import { seeded } from '../support/judge.js';
import { twoTower } from '../support/two-tower.js';

const FLIPS = 10_000;
const LOADED_FLIPS = 120;
const ITEMS = 4200;
const DIMS = 4;

let folders: string[];
let data: DataFolder;
let published: PublishedGeneration;
/** Every file of it, with its size. */
let files: { name: string; path: string; bytes: number }[];

beforeAll(async () => {
  const { items, users } = twoTower(ITEMS, 60, DIMS, 1);
  const ids = Array.from({ length: ITEMS }, (_, row) => `item-${row}`);
  const table = parquetWriteBuffer({
    columnData: [
      { name: 'id', data: ids, type: 'STRING' },
      { name: 'price', data: ids.map((_, row) => row % 9), type: 'INT32' },
    ],
  });
  folders = [temporaryFolder({ keep: true }), temporaryFolder({ keep: true })];
  const models = makeModelsFolder(folders[0]!, {
    items: { data: items, dims: DIMS },
    users: { data: users, dims: DIMS },
    files: {
      'embeddings/item_ids.txt': ids.join('\n'),
      'features/items.parquet': new Uint8Array(table),
      'exclusions/sold_out.txt': 'item-1\nitem-2\n',
    },
  });
  data = await DataFolder.open(folders[1]!);
  published = await buildGeneration({ models, data: data.path });
  files = readdirSync(published.folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => {
      const path = join(entry.parentPath, entry.name);
      return { path, name: relative(published.folder, path), bytes: statSync(path).size };
    });
}, 120_000);
afterAll(() => folders.forEach((path) => rmSync(path, { recursive: true, force: true })));

/** Half of the flips by bytes, which are mostly vectors and graph; half by files, of which most are small. */
function anyBit(random: () => number): { path: string; name: string; bit: number } {
  let at = Math.floor(random() * files.reduce((sum, { bytes }) => sum + bytes, 0));
  const byBytes = random() < 0.5;
  const file = byBytes ? files.find(({ bytes }) => (at -= bytes) < 0)! : files[Math.floor(random() * files.length)]!;
  return { ...file, bit: Math.floor(random() * file.bytes * 8) };
}

function flip(path: string, bit: number): void {
  const file = openSync(path, 'r+');
  const byte = Buffer.alloc(1);
  readSync(file, byte, 0, 1, bit >> 3);
  byte[0]! ^= 1 << (bit & 7);
  writeSync(file, byte, 0, 1, bit >> 3);
  closeSync(file);
}

describe('X1: a flipped bit', () => {
  it(`is found, or changes nothing that is read: ${FLIPS} of them`, { timeout: 400_000 }, async () => {
    expect(files.map(({ name }) => name)).toEqual(
      expect.arrayContaining([
        'manifest.json',
        'canaries.json',
        'embeddings/item_embeddings.npy',
        'embeddings/user_embeddings.npy',
        'embeddings/item_ids.txt',
        'features/items.parquet',
        'exclusions/sold_out.txt',
        'index/items.graph',
      ]),
    );
    const random = seeded(1);
    const found = new Map<string, number>();
    let harmless = 0;
    for (let one = 0; one < FLIPS; one++) {
      const { path, name, bit } = anyBit(random);
      flip(path, bit);
      const outcome = await (
        published.manifest.report[name] === undefined
          ? data.verify(published.id)
          : readReportFile(published.folder, published.manifest, name)
      ).catch((error: unknown) => error);
      if (outcome instanceof BelfryError) {
        expect(['BELFRY_GENERATION_CORRUPT', 'BELFRY_REPORT_MISSING'], `${name} bit ${bit}`).toContain(outcome.code);
        found.set(name, (found.get(name) ?? 0) + 1);
      } else {
        // Nothing but the spelling of a number in JSON: what was read is what was written.
        expect(name, `bit ${bit}: ${String(outcome)}`).toBe('manifest.json');
        expect(await readManifest(published.folder)).toEqual(published.manifest);
        harmless++;
      }
      flip(path, bit);
    }
    await data.verify(published.id);
    expect([...found.keys()].sort()).toEqual(files.map(({ name }) => name).sort());
    expect(harmless).toBeLessThan(FLIPS / 1000);
  });

  it(
    `never takes down what loads it before its checksums are known: ${LOADED_FLIPS} of them`,
    { timeout: 300_000 },
    async () => {
      const random = seeded(2);
      const query = new Float32Array(DIMS).fill(0.5);
      let [refused, loaded] = [0, 0];
      for (let one = 0; one < LOADED_FLIPS; one++) {
        const { path, name, bit } = anyBit(random);
        flip(path, bit);
        try {
          const generation = await Generation.load(published, { threads: 1 });
          loaded++;
          const { rows } = await generation.searcher.search({ query, k: 10, exact: false, exclude: new Uint32Array() });
          expect(
            rows.every((row) => row < ITEMS),
            `${name} bit ${bit}`,
          ).toBe(true);
          await generation.close();
        } catch (error) {
          expect(error, `${name} bit ${bit}: ${(error as Error).stack}`).toBeInstanceOf(BelfryError);
          refused++;
        }
        flip(path, bit);
      }
      expect(refused).toBeGreaterThan(LOADED_FLIPS / 20);
      expect(loaded).toBeGreaterThan(LOADED_FLIPS / 20);
      expect(readFileSync(join(data.path, 'CURRENT'), 'utf8')).toBe(`${published.id}\n`);
    },
  );
});
