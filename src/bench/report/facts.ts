/** Where and with what a report was made: the facts that every bench states alike. */
import { cpus, release, totalmem, type } from 'node:os';
import { VERSION } from '../../version.js';
import type { BenchReport } from './schema.js';

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
