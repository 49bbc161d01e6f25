/** `belfry bench quality`: do users get what they took, exactly, approximately and re-ranked? */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { ANN_BOUNDS } from '../ann/params.js';
import { readInteractions } from '../bench/quality/interactions.js';
import { benchQuality } from '../bench/quality/quality-bench.js';
import { qualityReport } from '../bench/quality/quality-report.js';
import { LIMITS } from '../config/schema.js';
import { BelfryError } from '../errors.js';
import type { Generation } from '../generation/generation.js';
import { addBenchOutput, type BenchOutputFlags } from './bench-output.js';
import { runBench, type SubjectFlags } from './bench-subject.js';
import { checkNumbers, listOf } from './bench-options.js';
import { addExportOptions } from './export-options.js';
import { numberOf } from './terminal.js';

interface QualityFlags extends SubjectFlags, BenchOutputFlags {
  interactions?: string;
  k: string;
  queries: number;
  candidates: number;
  recall: number;
  rerank?: string[] | false;
  includeSeen?: boolean;
  popularity?: string;
  minHitRate?: number;
  maxAnnLoss?: number;
}

/** Where a models folder keeps them. */
const CONVENTION = ['held_out.parquet', 'held_out.csv', 'held_out.npy'].map((name) => join('interactions', name));

export function addBenchQuality(bench: Command): void {
  const command = addExportOptions(bench.command('quality'))
    .description('held-out interactions against exact, approximate and re-ranked lists')
    .option(
      '--interactions <file>',
      '.parquet or .csv with user_id and item_id, or .npy of two columns; default interactions/held_out.* of the models folder',
    )
    .option('-k, --k <list>', 'list lengths, with commas between', '10,100')
    .option('--queries <n>', 'users to ask for, spread over the file', numberOf('--queries'), 2000)
    .option('--candidates <n>', 'retrieved for a re-ranker', numberOf('--candidates'), LIMITS.candidates.default)
    .option('--recall <share>', 'what requests ask for', numberOf('--recall'), ANN_BOUNDS.recall.default)
    .option('--rerank <names...>', 're-rankers; default all of the registry that run here')
    .option('--no-rerank', 'without re-ranking')
    .option('--include-seen', 'do not leave out what a user has')
    .option('--popularity <column>', 'number column of the item table; default popularity and the like, else histories')
    .option('--threads <n>', 'search threads; default one per CPU', numberOf('--threads'))
    .option('--min-hit-rate <share>', 'gate: exit code 3 below it, at the first k', numberOf('--min-hit-rate'))
    .option('--max-ann-loss <share>', 'gate: recall that ANN may lose against exact', numberOf('--max-ann-loss'));
  addBenchOutput(command).action(run);
}

async function run(flags: QualityFlags): Promise<void> {
  const started = new Date();
  checkNumbers([
    ['--queries', flags.queries, 1, 10_000_000, true],
    ['--candidates', flags.candidates, 1, LIMITS.candidates.max, true],
    ['--recall', flags.recall, ANN_BOUNDS.recall.min, ANN_BOUNDS.recall.max, false],
    ['--min-hit-rate', flags.minHitRate ?? 0, 0, 1, false],
    ['--max-ann-loss', flags.maxAnnLoss ?? 0, 0, 1, false],
  ]);
  const ks = [...new Set(listOf('--k', flags.k, 1, LIMITS.k.max, true))].sort((a, b) => a - b);
  await runBench(flags, async ({ generation, name }, { onProgress, signal }) => {
    const interactions = await readInteractions(flags.interactions ?? conventional(generation), generation);
    const rerankers = rerankersOf(flags.rerank, generation);
    const result = await benchQuality(generation, interactions, {
      ks,
      users: flags.queries,
      candidates: flags.candidates,
      recall: flags.recall,
      rerankers,
      excludeSeen: flags.includeSeen !== true,
      popularity: flags.popularity,
      onProgress: (done, total) => onProgress('lists of users', done, total),
      signal,
    });
    const settings = {
      k: ks,
      users: result.users,
      candidates: flags.candidates,
      recall: flags.recall,
      rerankers,
      exclude_seen: flags.includeSeen !== true,
    };
    const gates = { minHitRate: flags.minHitRate, maxAnnLoss: flags.maxAnnLoss };
    return qualityReport({ generation, name, started, settings, gates }, result);
  });
}

function rerankersOf(wanted: readonly string[] | false | undefined, { rerankers }: Generation): readonly string[] {
  if (wanted === false) return [];
  return wanted ?? rerankers.map(({ name, version }) => `${name}@${version}`);
}

function conventional({ manifest }: Generation): string {
  const folder = manifest.models_folder;
  const found = CONVENTION.map((name) => join(folder, name)).find((path) => existsSync(path));
  if (found !== undefined) return found;
  throw new BelfryError(
    'BELFRY_INTERACTIONS_INVALID',
    `interactions: ${folder} holds none of ${CONVENTION.join(', ')}; give held-out pairs of user and item with --interactions FILE`,
    { field: '--interactions' },
  );
}
