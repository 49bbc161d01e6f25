/** `belfry bench recall`: how much of the exact answer requests get, at what cost, and what stands in the way. */
import type { Command } from 'commander';
import { ANN_BOUNDS } from '../ann/params.js';
import { benchRecall } from '../bench/recall/recall-bench.js';
import { recallReport } from '../bench/recall/recall-report.js';
import { BelfryError, invalid } from '../errors.js';
import type { FilterGroup } from '../features/filter.js';
import { checkNumbers, listOf } from './bench-options.js';
import { addBenchOutput, type BenchOutputFlags } from './bench-output.js';
import { previousOf, runBench, type SubjectFlags } from './bench-subject.js';
import { addExportOptions } from './export-options.js';
import { numberOf } from './terminal.js';

interface RecallFlags extends SubjectFlags, BenchOutputFlags {
  k?: string;
  sweep?: string;
  recall: number;
  queries: number;
  repeats: number;
  timed: number;
  filters: string;
  filter?: string;
  popularity?: string;
  reach: number;
  previous?: string;
  minRecall?: number;
  maxP99?: number;
}

const KS = [1, 10, 50, 100, 500];
const SWEEP_KS = [10, 100];

export function addBenchRecall(bench: Command): void {
  const command = addExportOptions(bench.command('recall'))
    .description('recall against the exact answer, by effort, query, item and filter; what stands in the way')
    .option('--items <file>', 'a bare .npy of item vectors instead of a models folder (with --metric)')
    .option('--users <file>', 'a .npy of user vectors: of --items, or to ask with instead of the users of the export')
    .option('-k, --k <list>', `list lengths, with commas between; default ${KS.join(',')}`)
    .option('--sweep <list>', `lengths at which every effort is measured; default ${SWEEP_KS.join(',')}`)
    .option('--recall <share>', 'what requests ask for', numberOf('--recall'), ANN_BOUNDS.recall.default)
    .option(
      '--queries <n>',
      'users to ask with, spread over those that the graph was not built with',
      numberOf('--queries'),
      2000,
    )
    .option('--repeats <n>', 'rounds of timing', numberOf('--repeats'), 5)
    .option('--timed <n>', 'queries timed in a round', numberOf('--timed'), 200)
    .option('--filters <list>', 'shares of the items that filters leave; 0 for none', '0.5,0.1,0.01,0.001')
    .option('--filter <json>', 'a filter of your own too, as in POST /retrieve')
    .option(
      '--popularity <column>',
      'number column of the item table to sort items by; default popularity and the like',
    )
    .option('--reach <n>', 'items that are looked for by a query that singles them out', numberOf('--reach'), 20_000)
    .option('--previous <id>', 'generation to compare with, or none; default the one that served before')
    .option('--threads <n>', 'search threads; default one per CPU', numberOf('--threads'))
    .option('--kernel <name>', 'amx, avx512vnni, avxvnni, avx2 or portable; default the best of this CPU')
    .option('--min-recall <share>', 'gate: exit code 3 where the recall at a k is less', numberOf('--min-recall'))
    .option('--max-p99 <ms>', 'gate on the p99 of single queries', numberOf('--max-p99'));
  addBenchOutput(command).action(run);
}

async function run(flags: RecallFlags): Promise<void> {
  const started = new Date();
  check(flags);
  const filter = flags.filter === undefined ? undefined : parseFilter(flags.filter);
  const filterShares = listOf('--filters', flags.filters, 0, 1, false).filter((share) => share > 0);
  const given = lengths('--k', flags.k)?.sort((a, b) => a - b);
  const givenSweep = lengths('--sweep', flags.sweep);
  await runBench(flags, async (subject, tools) => {
    const { generation, name } = subject;
    const servable = generation.items.rows - generation.skippedItems.size;
    const ks = fit('--k', given, KS, servable);
    const sweepKs = fit('--sweep', givenSweep, SWEEP_KS, servable);
    const result = await benchRecall(generation, {
      ks,
      sweepKs,
      recall: flags.recall,
      queries: flags.queries,
      queryFile: subject.queryFile,
      rounds: flags.repeats,
      timed: flags.timed,
      filterShares,
      filter,
      popularity: flags.popularity,
      reachRows: flags.reach,
      previous: await previousOf(subject, flags.previous),
      temporary: subject.temporary,
      ...tools,
    });
    const settings = {
      k: ks,
      sweep: sweepKs,
      recall: flags.recall,
      queries: result.queries.count,
      query_source: result.queries.source,
      repeats: flags.repeats,
      timed: flags.timed,
      filters: filterShares,
    };
    const gates = { minRecall: flags.minRecall, maxP99Ms: flags.maxP99 };
    return recallReport({ generation, name, started, settings, gates }, result);
  });
}

function check({
  recall,
  queries,
  repeats,
  timed,
  reach,
  minRecall,
  maxP99,
  users,
  items,
  models,
  sample,
}: RecallFlags): void {
  checkNumbers([
    ['--recall', recall, ANN_BOUNDS.recall.min, ANN_BOUNDS.recall.max, false],
    ['--queries', queries, 1, 1_000_000, true],
    ['--repeats', repeats, 1, 1000, true],
    ['--timed', timed, 1, 100_000, true],
    ['--reach', reach, 0, 10_000_000, true],
    ['--min-recall', minRecall ?? 0, 0, 1, false],
    ['--max-p99', maxP99 ?? 0, 0, 1_000_000, false],
  ]);
  if (items !== undefined && (models !== undefined || sample === true))
    throw invalid('--items', 'either a models folder or a bare pair of files', 'both', { field: '--items' });
  if (users !== undefined && !users.endsWith('.npy'))
    throw invalid('--users', 'a .npy of vectors', users, { field: '--users' });
}

/** As given, which is checked before anything is built; undefined for the defaults. */
function lengths(option: string, text: string | undefined): number[] | undefined {
  return text === undefined ? undefined : [...new Set(listOf(option, text, 1, ANN_BOUNDS.k.max, true))];
}

/** Defaults that a catalogue of so few items does not have are left out; what was asked for must be there. */
function fit(
  option: string,
  given: readonly number[] | undefined,
  defaults: readonly number[],
  most: number,
): number[] {
  const beyond = given?.find((k) => k > most);
  if (beyond !== undefined)
    throw invalid(option, `lengths up to ${most}, of which there are items`, beyond, { field: option, limit: most });
  const ks = given ?? defaults.filter((k) => k <= most);
  return ks.length === 0 ? [most] : [...ks];
}

function parseFilter(text: string): FilterGroup {
  try {
    return JSON.parse(text) as FilterGroup; // its shape is checked when it is compiled
  } catch (error) {
    throw new BelfryError('BELFRY_INVALID_ARGUMENT', `--filter: not JSON (${(error as Error).message})`, {
      field: '--filter',
      cause: error,
    });
  }
}
