/** `belfry retrieve-all`: the top k of all users into a Parquet file or a .npy. */
import type { Command } from 'commander';
import type { IdKind } from '../ann/ids.js';
import { loadSettings } from '../config/load.js';
import { BelfryError } from '../errors.js';
import type { FilterGroup } from '../features/filter.js';
import { Generation } from '../generation/generation.js';
import { GenerationStore } from '../generation/store.js';
import type { JobPlan } from '../jobs/job-plan.js';
import { retrieveAll, type RetrieveAllOptions, type RetrieveAllSummary } from '../jobs/retrieve-all.js';
import type { UserChoice } from '../jobs/users.js';
import { Metrics } from '../telemetry/metrics.js';
import type { ItemUpserts } from '../upserts/item-upserts.js';
import { addExportOptions, type ExportFlags, exportSettings } from './export-options.js';
import { readIds } from './id-lists.js';
import { currentGeneration } from './current-generation.js';
import { loadOptions } from './load-options.js';
import { openUpserts } from './open-upserts.js';
import { colors, formatBytes, numberOf, ProgressLine, print, printJson, stopSignal } from './terminal.js';

interface RetrieveAllFlags extends ExportFlags {
  out: string;
  k?: number;
  users?: string;
  format?: 'long' | 'lists';
  exact?: boolean;
  recall?: number;
  filter?: string;
  exclude?: string;
  excludeSeen?: boolean;
  excludeSets?: string[];
  batch?: number;
  threads?: number;
  kernel?: string;
  restart?: boolean;
  json?: boolean;
}

export function addRetrieveAll(program: Command): void {
  addExportOptions(program.command('retrieve-all'))
    .description('the top k items of all users into one file; stopped or killed, the same command goes on')
    .requiredOption('--out <file>', '.parquet, or .npy (ids; the scores go to .scores.npy beside it)')
    .option('-k, --k <n>', 'items a user; default 100', numberOf('-k'))
    .option('--users <file>', 'for these only: .txt or .json of user ids, or .npy of query vectors (ids: row numbers)')
    .option('--format <name>', 'of a .parquet: long (default; user_id, rank, item_id, score) or lists (a row a user)')
    .option('--exact', 'search with a proof of exactness')
    .option('--recall <share>', 'share of the true top k that is enough, up to 1', numberOf('--recall'))
    .option('--filter <json>', 'a filter as in POST /retrieve')
    .option('--exclude <ids>', 'items that nobody gets: a .txt or .json of ids, or ids with commas between')
    .option(
      '--exclude-seen',
      'leave out what each user has (column seen or history of users.parquet, exclusion set seen)',
    )
    .option('--exclude-sets <names...>', 'leave out the items of these exclusion sets')
    .option('--batch <n>', 'users a search; default as many as 1 ms can copy', numberOf('--batch'))
    .option('--threads <n>', 'search threads; default one per CPU', numberOf('--threads'))
    .option('--kernel <name>', 'amx, avx512vnni, avxvnni, avx2 or portable; default the best of this CPU')
    .option('--restart', 'begin anew where a part is left, also of another job')
    .option('--json', 'the summary as JSON')
    .action(run);
}

async function run(flags: RetrieveAllFlags): Promise<void> {
  const settings = loadSettings(exportSettings(flags, { threads: flags.threads, kernel: flags.kernel }));
  const filter = flags.filter === undefined ? undefined : parseFilter(flags.filter);
  const progress = new ProgressLine();
  const stop = stopSignal();
  let store: GenerationStore | undefined;
  let upserts: ItemUpserts | undefined;
  try {
    const published = await currentGeneration(settings, progress, { onPlan: progress.plan, signal: stop.signal });
    const generation = await Generation.load(published, loadOptions(settings));
    store = new GenerationStore(generation);
    upserts = await openUpserts(settings, store, new Metrics(), (message) => process.stderr.write(`${message}\n`));
    const job: RetrieveAllOptions = {
      out: flags.out,
      k: flags.k,
      layout: flags.format,
      users: await usersOf(flags.users, generation),
      exact: flags.exact,
      recall: flags.recall,
      filter,
      exclude: flags.exclude === undefined ? [] : await readIds('exclude', flags.exclude, generation.itemIds.kind),
      excludeSeen: flags.excludeSeen,
      excludeSets: flags.excludeSets,
      batch: flags.batch,
      restart: flags.restart,
      signal: stop.signal,
      onPlan: (plan) => process.stderr.write(`${describePlan(plan)}\n`),
      onProgress: ({ done, total, usersPerSecond }) =>
        progress.update({ stage: 'users', done, total, note: `${Math.round(usersPerSecond)} users/s` }),
    };
    const summary = await retrieveAll(generation, job, upserts);
    progress.finish();
    if (flags.json) printJson(forScripts(summary));
    else print(forPeople(summary));
  } finally {
    stop.release();
    progress.finish();
    await upserts?.close();
    await store?.close();
  }
}

function parseFilter(text: string): FilterGroup {
  try {
    return JSON.parse(text) as FilterGroup; // its shape is checked when it is compiled
  } catch (error) {
    throw new BelfryError('BELFRY_INVALID_ARGUMENT', `--filter: not JSON (${(error as Error).message})`, {
      field: 'filter',
      cause: error,
    });
  }
}

async function usersOf(text: string | undefined, generation: Generation): Promise<UserChoice> {
  if (text === undefined) return 'all';
  if (text.endsWith('.npy')) return { vectors: text };
  return { ids: await readIds('users', text, kindOfUsers(generation)) };
}

/** Without embeddings of users, their ids are those of the users table. */
function kindOfUsers({ userIds, userTable }: Generation): IdKind {
  return userIds?.kind ?? (typeof userTable.ids[0] === 'number' ? 'integer' : 'string');
}

function describePlan({ users, resumedUsers, k, writeBytes, freeBytes, memoryBytes, path }: JobPlan): string {
  const goesOn = resumedUsers > 0 ? ` (${resumedUsers} are done already)` : '';
  return `top ${k} for ${users} users${goesOn}, ${path}: writes up to ${formatBytes(writeBytes)} (${formatBytes(freeBytes)} free), needs up to ${formatBytes(memoryBytes)} of memory beside the generation`;
}

function forPeople(summary: RetrieveAllSummary): string {
  const { users, resumedUsers, k, hits, skipped, unknown, unknownExamples, unknownExcluded } = summary;
  const rows: [string, string][] = [
    ['written', `${summary.files.join(' and ')}, ${formatBytes(summary.bytes)}`],
    ['users', `${users}${resumedUsers > 0 ? `, ${resumedUsers} of them by an earlier run` : ''}`],
    ['items', `${hits} in all, up to ${k} a user; ${summary.admitted} may be returned`],
    ['generation', summary.generation],
    ['search', `${summary.path}, ${summary.kernel} kernels`],
    ['time', `${summary.seconds.toFixed(2)} s, ${Math.round(summary.usersPerSecond)} users/s`],
  ];
  if (skipped > 0) rows.push(['left out', `${skipped} users whose vectors the build left out`]);
  if (unknown > 0)
    rows.push(['unknown', `${unknown} user ids (${unknownExamples.join(', ')}${unknown > 5 ? ', ...' : ''})`]);
  if (unknownExcluded > 0) rows.push(['unknown', `${unknownExcluded} excluded item ids`]);
  return rows.map(([key, value]) => `${colors.dim(key.padEnd(11))} ${value}`).join('\n');
}

function forScripts(summary: RetrieveAllSummary): Record<string, unknown> {
  const [file] = summary.files;
  const round = (value: number) => Math.round(value * 1000) / 1000;
  return {
    generation: summary.generation,
    file,
    files: summary.files,
    bytes: summary.bytes,
    format: summary.layout,
    k: summary.k,
    users: summary.users,
    resumed_users: summary.resumedUsers,
    skipped: summary.skipped,
    unknown: summary.unknown,
    unknown_examples: summary.unknownExamples,
    hits: summary.hits,
    admitted_items: summary.admitted,
    unknown_excluded: summary.unknownExcluded,
    path: summary.path,
    kernel: summary.kernel,
    seconds: round(summary.seconds),
    users_per_second: round(summary.usersPerSecond),
  };
}
