/** Where and with what a report was made: the facts that every bench states alike. */
import { cpus, release, totalmem, type } from 'node:os';
import { VERSION } from '../../version.js';
import { formatValue } from './format.js';
import { type BenchReport, REPORT_FORMAT } from './schema.js';

/** `kernels`: those that run here, fastest first; none where the bench opened no index. */
export function machineFacts(kernels: readonly string[] = []): BenchReport['machine'] {
  const all = cpus();
  return {
    cpu: all[0]?.model.trim() ?? 'unknown',
    cores: all.length,
    memory_bytes: totalmem(),
    os: `${type()} ${release()}`,
    kernels: [...kernels],
  };
}

export function versionFacts(): BenchReport['versions'] {
  return { belfry: VERSION, node: process.versions.node };
}

/** The command as typed, quoted for a shell: `belfry bench load --url http://127.0.0.1:8080`. */
export function commandLine(argv: readonly string[] = process.argv.slice(2)): string {
  return ['belfry', ...argv].map(shellQuoted).join(' ');
}

function shellQuoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}

/** What begins every report. */
export function reportHead(
  bench: BenchReport['bench'],
  title: string,
  subject: string,
  { started, kernels }: { readonly started: Date; readonly kernels?: readonly string[] },
): Pick<
  BenchReport,
  'format' | 'bench' | 'title' | 'subject' | 'command' | 'started' | 'seconds' | 'machine' | 'versions'
> {
  return {
    format: REPORT_FORMAT,
    bench,
    title,
    subject,
    command: commandLine(),
    started: started.toISOString(),
    seconds: (Date.now() - started.getTime()) / 1000,
    machine: machineFacts(kernels),
    versions: versionFacts(),
  };
}

/** `95 % interval 98.1 % to 98.9 %`. */
export function intervalText({ low, high }: { readonly low: number; readonly high: number }): string {
  return `95 % interval ${formatValue(low, 'share')} to ${formatValue(high, 'share')}`;
}
