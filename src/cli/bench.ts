/** `belfry bench`: one command a question. What recall, what load, what do users get, what changed? */
import type { Command } from 'commander';
import { addBenchCompare } from './bench-compare.js';
import { addBenchLoad } from './bench-load.js';
import { addBenchQuality } from './bench-quality.js';
import { addBenchRecall } from './bench-recall.js';

export function addBench(program: Command): void {
  const bench = program
    .command('bench')
    .description('measure: recall against the exact answer, load on a server, quality for users');
  for (const add of [addBenchRecall, addBenchLoad, addBenchQuality, addBenchCompare]) add(bench);
}
