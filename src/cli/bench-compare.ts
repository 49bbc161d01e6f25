/** `belfry bench compare`: what changed between two reports; exit code 3 where something is worse. */
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from 'commander';
import { COMPARE_DEFAULTS } from '../bench/compare/compare.js';
import { compareReport } from '../bench/compare/compare-report.js';
import { type BenchReport, parseReport } from '../bench/report/schema.js';
import { invalid } from '../errors.js';
import { addBenchOutput, type BenchOutputFlags, finishBench } from './bench-output.js';
import { numberOf } from './terminal.js';

interface CompareFlags extends BenchOutputFlags {
  tolerance: number;
  shareTolerance: number;
}

export function addBenchCompare(bench: Command): void {
  const command = bench
    .command('compare <a> <b>')
    .description('what changed from report A to report B beyond noise; exit code 3 where something is worse')
    .option(
      '--tolerance <share>',
      'relative change that does not matter',
      numberOf('--tolerance'),
      COMPARE_DEFAULTS.tolerance,
    )
    .option(
      '--share-tolerance <share>',
      'the same of recall, goodput and other shares, absolute',
      numberOf('--share-tolerance'),
      COMPARE_DEFAULTS.shareTolerance,
    );
  addBenchOutput(command).action(run);
}

async function run(a: string, b: string, flags: CompareFlags): Promise<void> {
  const { tolerance, shareTolerance } = flags;
  for (const [option, value] of [
    ['--tolerance', tolerance],
    ['--share-tolerance', shareTolerance],
  ] as const)
    if (!(value >= 0 && value <= 10)) throw invalid(option, 'a number from 0 to 10', value, { field: option });
  const { report } = compareReport(await read(a), await read(b), { tolerance, shareTolerance });
  await finishBench(report, flags);
}

/** A report.json, or the folder that it is in. */
async function read(path: string): Promise<{ report: BenchReport; file: string }> {
  const file = (await stat(path)).isDirectory() ? join(path, 'report.json') : path;
  return { report: parseReport(await readFile(file, 'utf8'), file), file };
}
