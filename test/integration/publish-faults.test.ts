/** X3: every write, fsync, rename, open of a build and its publish fails once, in each way a disk fails; then many at once. */
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { BelfryError } from '../../src/errors.js';
import { buildGeneration } from '../../src/generation/build.js';
import { DataFolder } from '../../src/generation/data-folder.js';
import { failpoint, planFaults } from '../../src/generation/faults.js';
import { expectError } from '../support/expect-error.js';
import { makeModelsFolder, randomValues, temporaryFolder } from '../support/folders.js';

const CODES = { ENOSPC: 'BELFRY_DISK_SPACE', EDQUOT: 'BELFRY_DISK_SPACE', EIO: 'BELFRY_FILE_UNREADABLE' } as const;
const SEEDS = 40;
const DIMS = 4;
const items = { data: randomValues(30 * DIMS, 1), dims: DIMS };

let models: string;
let data: DataFolder;

beforeAll(async () => {
  const files = { 'embeddings/item_ids.txt': Array.from({ length: 30 }, (_, row) => `i${row}`).join('\n') };
  models = makeModelsFolder(temporaryFolder({ keep: true }), { items, files });
  data = await DataFolder.open(temporaryFolder({ keep: true }));
  for (let made = 0; made < 2; made++) await build();
});
afterEach(() => planFaults(undefined));
afterAll(() => [models, data.path].forEach((path) => rmSync(path, { recursive: true, force: true })));

async function build(): Promise<{ id: string; warnings: BelfryError[] }> {
  const warnings: BelfryError[] = [];
  const { id } = await buildGeneration({ models, data: data.path, onWarning: (error) => warnings.push(error) });
  return { id, warnings };
}

/** Failpoints of one build, each as often as it is passed, without removals: what cannot be removed is removed later. */
async function pointsOfBuild(): Promise<string[]> {
  const trace = join(temporaryFolder(), 'points');
  planFaults(`trace=${trace}`);
  await build();
  planFaults(undefined);
  const passed = new Map<string, number>();
  return readFileSync(trace, 'utf8')
    .trim()
    .split('\n')
    .filter((point) => !point.endsWith('.remove'))
    .map((point) => {
      passed.set(point, (passed.get(point) ?? 0) + 1);
      return `${point}#${passed.get(point)}`;
    });
}

/** What serves, by a look at the folder as a server takes it; nothing may be wrong with it. */
async function serving(): Promise<string | undefined> {
  const found = await data.current((id, error) => expect.unreachable(`${id}: ${error.message}`));
  expect(found?.id).toBe(await data.pointed());
  return found?.id;
}

const leftovers = () => readdirSync(data.path).filter((name) => !/^(CURRENT|gen-.*)$/.test(name));

describe('a build whose disk fails', () => {
  it(
    'leaves the old generation serving and nothing behind, wherever and however it fails',
    { timeout: 300_000 },
    async () => {
      const points = await pointsOfBuild();
      for (const place of ['vectors', 'copy', 'canaries', 'manifest', 'generation', 'pointer', 'collect', 'lock'])
        expect(points.filter((point) => point.startsWith(`${place}.`))).not.toEqual([]);
      for (const call of ['open', 'write', 'sync', 'rename', 'sync-folder', 'mkdir'])
        expect(points.filter((point) => point.includes(`.${call}#`))).not.toEqual([]);
      for (const point of points) {
        for (const [system, code] of Object.entries(CODES)) {
          const what = `${system}@${point}`;
          const [before, ids] = [await serving(), await data.ids()];
          planFaults(what);
          const outcome = await build().catch((error: unknown) => error);
          planFaults(undefined);
          if (point.startsWith('collect.')) {
            // Published by then: the new one serves, and what could not be removed is said and removed later.
            const { id, warnings } = outcome as Awaited<ReturnType<typeof build>>;
            expect(await serving(), what).toBe(id);
            expect(warnings, what).toEqual([expect.objectContaining({ code })]);
            await data.cleanUp();
          } else {
            expect(outcome, what).toBeInstanceOf(BelfryError);
            expect(outcome, what).toMatchObject({ code, message: expect.stringContaining(system) });
            expect((outcome as BelfryError).message, what).toContain(data.path);
            expect([await serving(), await data.ids()], what).toEqual([before, ids]);
          }
          expect(leftovers(), what).toEqual([]);
        }
      }
      await build();
      expect((await data.ids()).length).toBe(2);
    },
  );

  it(`serves the old or the new one whatever fails together, over ${SEEDS} seeds`, { timeout: 120_000 }, async () => {
    let [published, refused] = [0, 0];
    for (let seed = 1; seed <= SEEDS; seed++) {
      const before = await serving();
      planFaults(`seed=${seed}`);
      const outcome = await build().catch((error: unknown) => error);
      planFaults(undefined);
      const now = await serving();
      if (outcome instanceof BelfryError) {
        refused++;
        expect(['BELFRY_DISK_SPACE', 'BELFRY_FILE_UNREADABLE']).toContain(outcome.code);
        // Only where taking back the pointer failed as well may it name the new one, which is whole.
        if (now !== before) expect(await data.ids()).toContain(before);
      } else {
        published++;
        expect(now).toBe((outcome as { id: string }).id);
      }
      await data.cleanUp();
      expect(leftovers(), `seed ${seed}`).toEqual([]);
    }
    expect(published).toBeGreaterThan(0);
    expect(refused).toBeGreaterThan(0);
  });

  it('rolls back to nothing new when the pointer cannot be written', async () => {
    const before = await serving();
    for (const point of ['pointer.open', 'pointer.write', 'pointer.sync', 'pointer.rename']) {
      planFaults(`ENOSPC@${point}`);
      await expectError(
        () => data.rollback(),
        'BELFRY_DISK_SPACE',
        /CURRENT.*: the disk is full \(ENOSPC\); free some/,
      );
      expect(await serving()).toBe(before);
      expect(leftovers()).toEqual([]);
    }
  });
});

describe('failpoints', () => {
  it('fail the call that is named and no other, with the error of the system', async () => {
    planFaults('EIO@pointer.sync#2, ENOSPC@manifest.write');
    const calls: string[] = [];
    const pass = (point: 'pointer.sync' | 'manifest.write') =>
      failpoint(
        point,
        '/a/b',
        async () => calls.push(point),
        async () => calls.push(`half of ${point}`),
      );
    await pass('pointer.sync');
    await expect(pass('pointer.sync')).rejects.toMatchObject({
      code: 'EIO',
      syscall: 'fsync',
      path: '/a/b',
      message: "EIO: i/o error, fsync '/a/b'",
    });
    await pass('pointer.sync');
    await expect(pass('manifest.write')).rejects.toThrow("ENOSPC: no space left on device, write '/a/b'");
    expect(calls).toEqual(['pointer.sync', 'half of pointer.sync', 'pointer.sync', 'half of manifest.write']);
  });

  it('are the same for the same seed', async () => {
    const outcomes = async (seed: number) => {
      planFaults(`seed=${seed}`);
      const found: string[] = [];
      for (let i = 0; i < 200; i++) {
        const point = (['copy.write', 'copy.sync', 'pointer.rename', 'manifest.open'] as const)[i % 4]!;
        found.push(await failpoint(point, '', async () => '').catch((error: { code: string }) => error.code));
      }
      return found.join();
    };
    const seeds = [1, 2, 3, 4, 5, 6, 7, 8];
    const first: string[] = [];
    for (const seed of seeds) first.push(await outcomes(seed));
    for (const [at, seed] of seeds.entries()) expect(await outcomes(seed)).toBe(first[at]);
    expect(first.some((one) => one.includes('ENOSPC'))).toBe(true);
    expect(new Set(first).size).toBeGreaterThan(1);
  });

  it.each(['nonsense', 'EIO@nowhere.write', 'EWRONG@pointer.sync', 'kill-never@pointer.sync'])('refuse %s', (plan) => {
    expect(() => planFaults(plan)).toThrow(`environment variable BELFRY_FAULTS: ${plan} is no fault`);
  });
});
