/** What `bench recall` and `bench quality` measure: a generation of a models folder, or one made of a bare pair of `.npy` files. */
import { mkdir, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { loadAddon } from '../ann/addon.js';
import type { BenchReport } from '../bench/report/schema.js';
import { dataFolder, loadSettings } from '../config/load.js';
import { BelfryError } from '../errors.js';
import { DataFolder, type PublishedGeneration } from '../generation/data-folder.js';
import { Generation } from '../generation/generation.js';
import { type BenchOutputFlags, finishBench } from './bench-output.js';
import { type ExportFlags, exportSettings } from './export-options.js';
import { currentGeneration } from './current-generation.js';
import { loadOptions } from './load-options.js';
import { ProgressLine, stopSignal } from './terminal.js';

export interface SubjectFlags extends ExportFlags {
  items?: string;
  users?: string;
  threads?: number;
  kernel?: string;
}

export interface BenchSubject {
  readonly generation: Generation;
  /** For people. */
  readonly name: string;
  readonly data: string;
  /** A folder for what the bench itself writes; gone after `close`. */
  readonly temporary: string;
  /** Query vectors of a file, where the generation has users of its own. */
  readonly queryFile?: string | undefined;
  close(): Promise<void>;
}

/** What a bench runs with: it tells how far it is, and stops when it is told to. */
export interface BenchTools {
  readonly onProgress: (stage: string, done: number, total: number) => void;
  readonly signal: AbortSignal;
}

/**
 * Opens what is measured, measures it, and ends with the report: written, kept in the data folder (not of a bare pair), its
 * gates checked. Errors: those of openSubject, of `measure`; BELFRY_BENCH_GATE.
 */
export async function runBench(
  flags: SubjectFlags & BenchOutputFlags,
  measure: (subject: BenchSubject, tools: BenchTools) => Promise<BenchReport>,
): Promise<void> {
  const progress = new ProgressLine();
  const stop = stopSignal();
  try {
    const subject = await openSubject(flags, progress, stop.signal);
    try {
      const onProgress: BenchTools['onProgress'] = (stage, done, total) => progress.update({ stage, done, total });
      const report = await measure(subject, { onProgress, signal: stop.signal });
      progress.finish();
      await finishBench(report, flags, flags.items === undefined ? subject.data : undefined);
    } finally {
      await subject.close();
    }
  } finally {
    stop.release();
    progress.finish();
  }
}

/** Errors: those of a build; BELFRY_DIMS_MISMATCH for a pair that does not fit together. */
async function openSubject(flags: SubjectFlags, progress: ProgressLine, signal: AbortSignal): Promise<BenchSubject> {
  const temporary = await mkdtemp(join(tmpdir(), 'belfry-bench-'));
  const remove = () => rm(temporary, { recursive: true, force: true });
  try {
    const models = flags.items === undefined ? undefined : await folderOfPair(flags.items, flags.users, temporary);
    const { file, flags: exported } = exportSettings(flags, { threads: flags.threads, kernel: flags.kernel });
    const settings = loadSettings({
      file,
      flags: models === undefined ? exported : { ...exported, models, data: flags.data ?? join(temporary, 'data') },
    });
    const data = dataFolder(settings);
    const published = await currentGeneration(settings, progress, { signal });
    const generation = await Generation.load(published, loadOptions(settings));
    return {
      generation,
      name:
        flags.items === undefined
          ? `Generation ${generation.id} of ${basename(settings.models)}`
          : [flags.items, flags.users]
              .filter((path) => path !== undefined)
              .map((path) => basename(path))
              .join(' and '),
      data,
      temporary,
      queryFile: flags.items === undefined ? flags.users : undefined,
      close: async () => {
        await generation.close();
        await remove();
      },
    };
  } catch (error) {
    await remove();
    throw error;
  }
}

/** A models folder of links: from here on a bare pair is an export like any other. */
async function folderOfPair(items: string, users: string | undefined, temporary: string): Promise<string> {
  const { npyInfo } = loadAddon();
  const [, dims] = (await npyInfo(items)).shape;
  const other = users === undefined ? undefined : (await npyInfo(users)).shape[1];
  if (users !== undefined && other !== dims) {
    throw new BelfryError(
      'BELFRY_DIMS_MISMATCH',
      `users: ${users} has ${other ?? 'no'} dims and ${items} ${dims ?? 'none'}; give vectors of the same training`,
      { field: 'users', ...(dims === undefined ? {} : { limit: dims }) },
    );
  }
  const models = join(temporary, 'models');
  await mkdir(join(models, 'embeddings'), { recursive: true });
  await symlink(resolve(items), join(models, 'embeddings', 'item_embeddings.npy'));
  if (users !== undefined) await symlink(resolve(users), join(models, 'embeddings', 'user_embeddings.npy'));
  return models;
}

/**
 * The generation named, else the one that served before, if it is whole. Undefined where there is none. Errors for one that
 * is named: BELFRY_GENERATION_CORRUPT, BELFRY_FILE_VERSION.
 */
export async function previousOf(
  { data, generation }: BenchSubject,
  wanted: string | undefined,
): Promise<PublishedGeneration | undefined> {
  if (wanted === 'none') return undefined;
  const folder = await DataFolder.open(data);
  const id = wanted ?? (await folder.pointer()).previous;
  if (id === undefined || id === generation.id) return undefined;
  try {
    return { id, folder: folder.folderOf(id), manifest: await folder.verify(id) };
  } catch (error) {
    if (wanted !== undefined || !(error instanceof BelfryError)) throw error;
    process.stderr.write(`not compared with generation ${id}: ${error.message}\n`);
    return undefined;
  }
}
