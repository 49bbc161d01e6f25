/** What a job may be asked, and what it says that it will take. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { Manifest } from '../../../src/generation/manifest.js';
import { estimate, type FilledJob, fillJob, type JobRequest, requireDisk } from '../../../src/jobs/job-plan.js';
import { expectError } from '../../support/expect-error.js';
import { temporaryFolder } from '../../support/folders.js';

it('is filled once: defaults, the files, as many users a search as 1 ms can copy', () => {
  const folder = temporaryFolder();
  const [out, npy] = [join(folder, 'a.b.parquet'), join(folder, 'c.npy')];
  expect(fillJob({ out }, 64)).toEqual({
    out,
    finals: [out],
    folder: `${out}.partial`,
    layout: 'long',
    k: 100,
    batch: 2_621,
    exact: false,
    recall: undefined,
  });
  expect(fillJob({ out: npy, recall: 0.9 }, 4_096)).toMatchObject({
    finals: [join(folder, 'c.scores.npy'), npy],
    layout: 'npy',
    batch: 64,
    recall: 0.9,
  });
  expect(fillJob({ out, k: 1 }, 8).batch).toBe(4_096);
  expect(fillJob({ out, k: 10_000, layout: 'lists', batch: 3 }, 8)).toMatchObject({ batch: 3, layout: 'lists' });
});

it.each<[string, Partial<JobRequest>, string]>([
  ['k', { k: 10_001 }, 'k: expected an integer from 1 to 10000, received 10001'],
  ['k', { k: 1.5 }, 'k: expected an integer from 1 to 10000, received 1.5'],
  ['batch', { batch: 5_000 }, 'batch: expected an integer from 1 to 2621, received 5000'],
  ['batch', { batch: 0 }, 'batch: expected an integer from 1 to 2621, received 0'],
  ['recall', { recall: 0 }, 'recall: expected a number above 0, up to 1, received 0'],
  ['recall', { recall: Number.NaN }, 'recall: expected a number above 0, up to 1, received NaN'],
  ['recall', { recall: 0.9, exact: true }, 'recall: expected no recall below 1 with exact, received 0.9'],
  ['out', { out: 'x.csv' }, 'out: expected a path that ends with .parquet or .npy, received "x.csv"'],
  ['out', { out: '' }, 'out: expected a path that ends with .parquet or .npy, received ""'],
  [
    'format',
    { out: 'x.npy', layout: 'lists' },
    'format: expected a .parquet file: a .npy has one layout, received "lists"',
  ],
  ['format', { layout: 'wide' as 'long' }, 'format: expected long or lists, received "wide"'],
])('refuses %s: %j', async (field, request, message) => {
  const error = await expectError(
    () => fillJob({ out: 'x.parquet', ...request }, 8),
    'BELFRY_INVALID_ARGUMENT',
    message,
  );
  expect(error.field).toBe(field);
});

it('refuses paths that cannot be written', async () => {
  const folder = temporaryFolder();
  writeFileSync(join(folder, 'file'), '');
  mkdirSync(join(folder, 'dir.parquet'));
  for (const [out, message] of [
    ['no/out.parquet', `out: folder ${join(folder, 'no')} does not exist; make it, or choose another --out`],
    ['file/out.npy', `out: folder ${join(folder, 'file')} is not a folder; make it, or choose another --out`],
    ['dir.parquet', `out: ${join(folder, 'dir.parquet')} is a folder; name a file`],
  ] as const)
    await expectError(() => fillJob({ out: join(folder, out) }, 8), 'BELFRY_FILE_UNREADABLE', message);
});

it('refuses too little disk, with numbers', async () => {
  const error = await expectError(
    () => requireDisk('/data/out.parquet', 5_000_000, 4_000_000),
    'BELFRY_DISK_SPACE',
    'out.parquet: the job needs up to 38554432 bytes free in /data (5000000 and a floor of 33554432), there are 4000000; free some, or choose another --out',
  );
  expect([error.field, error.limit]).toEqual(['out', 38_554_432]);
  requireDisk('/data/out.parquet', 5_000_000, 38_554_432);
});

it('the memory of a job does not grow with its users, its file does', () => {
  const manifest = { items: { count: 1e6, dims: 64 }, files: {} } as unknown as Manifest;
  const job = { layout: 'long', k: 100, batch: 2_621 } as FilledJob;
  const [some, many] = [estimate(job, manifest, 1e6), estimate(job, manifest, 1e8)];
  expect(many.memoryBytes).toBe(some.memoryBytes);
  expect(many.memoryBytes).toBeLessThan(200e6);
  expect(many.fileBytes / some.fileBytes).toBeCloseTo(100, -1);
});
