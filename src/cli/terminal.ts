/** What every command shares towards people and scripts: progress on stderr, results on stdout, errors and exit codes. */
import picocolors from 'picocolors';
import type { BuildProgress } from '../generation/build.js';
import type { BuildPlan } from '../generation/build-plan.js';
import { GATE_CODES } from '../generation/gates/gate.js';
import { BelfryError, invalid } from '../errors.js';

// Only terminals get colours; the library would also colour a pipe when CI is set, and scripts read pipes.
const colorsOf = (out: NodeJS.WriteStream) =>
  picocolors.createColors(picocolors.isColorSupported && out.isTTY === true);
/** For standard output. */
export const colors = colorsOf(process.stdout);
const errorColors = colorsOf(process.stderr);

const BAR_WIDTH = 28;

/** A bar that is redrawn on a terminal; elsewhere one line a stage, so that logs stay readable. */
export class ProgressLine {
  private stage = '';
  private drawnAt = 0;
  private started = 0;
  /** Where the stage began: a job that goes on does not begin at 0. */
  private from = 0;
  private readonly isTerminal: boolean;

  constructor(private readonly out: NodeJS.WriteStream = process.stderr) {
    this.isTerminal = out.isTTY === true;
  }

  /** `note` stands behind the bar, for example how fast it goes. */
  readonly update = ({ stage, done, total, note = '' }: BuildProgress & { readonly note?: string }): void => {
    const now = performance.now();
    if (stage !== this.stage) {
      this.finish();
      this.stage = stage;
      this.started = now;
      this.from = total > 0 ? done / total : 0;
      if (!this.isTerminal) this.out.write(`${stage} ...\n`);
    } else if (this.isTerminal && now - this.drawnAt < 50 && done < total) {
      return;
    }
    this.drawnAt = now;
    if (this.isTerminal) this.out.write(`\r\x1b[2K${this.line(done, total, now)}${note === '' ? '' : `  ${note}`}`);
  };

  private line(done: number, total: number, now: number): string {
    const share = total > 0 ? Math.min(1, done / total) : 1;
    const filled = Math.round(share * BAR_WIDTH);
    const bar = errorColors.green('━'.repeat(filled)) + errorColors.dim('━'.repeat(BAR_WIDTH - filled));
    const seconds = (now - this.started) / 1000;
    const made = share - this.from;
    const eta = made > 0.02 && share < 1 && seconds > 1 ? `  ${Math.ceil((seconds / made) * (1 - share))} s left` : '';
    return `${this.stage.padEnd(26)} ${bar} ${String(Math.round(share * 100)).padStart(3)}%${eta}`;
  }

  /** What a build will take, said before its first byte. */
  readonly plan = (plan: BuildPlan): void => {
    const users = plan.users > 0 ? ` and ${plan.users} users` : '';
    this.out.write(
      `building ${plan.items} items${users} of ${plan.dims} dims: writes ${formatBytes(plan.writeBytes)} (${formatBytes(plan.freeBytes)} free), needs ${formatBytes(plan.memoryBytes)} of memory (${formatBytes(plan.availableMemoryBytes)} available)\n`,
    );
  };

  finish(): void {
    if (this.stage !== '' && this.isTerminal) this.out.write('\n');
    this.stage = '';
  }
}

/** Parser of an option that takes a number: `--port ''` is no 0. */
export function numberOf(option: string): (text: string) => number {
  return (text) => {
    const value = text.trim() === '' ? Number.NaN : Number(text);
    if (Number.isNaN(value)) throw invalid(option, 'a number', text, { field: option });
    return value;
  };
}

/** A stop signal while nothing is served yet: the build ends, and what it made is removed. */
export function stopSignal(): { signal: AbortSignal; release: () => void } {
  const stop = new AbortController();
  const abort = (name: NodeJS.Signals) => stop.abort(new BelfryError('BELFRY_STOPPED', `stopped by ${name}`));
  const names = ['SIGINT', 'SIGTERM'] as const;
  for (const name of names) process.once(name, abort);
  return { signal: stop.signal, release: () => names.forEach((name) => process.off(name, abort)) };
}

/** A file that the system refuses is no defect of ours: its message, without our stack. */
export function explainSystem(error: unknown): unknown {
  const { code, syscall, path } = error as NodeJS.ErrnoException;
  if (!(error instanceof Error) || error instanceof BelfryError || !code || !syscall || !path) return error;
  return new BelfryError('BELFRY_FILE_UNREADABLE', error.message, { field: path, cause: error });
}

export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, (_key, one) => (typeof one === 'bigint' ? Number(one) : one), 2)}\n`);
}

/** Exit codes: 1 a failure, 2 wrong use, 3 a check or gate said no. */
export function exitCodeOf(error: unknown): number {
  if (!(error instanceof BelfryError)) return 1;
  if ([...Object.values<string>(GATE_CODES), 'BELFRY_BENCH_GATE'].includes(error.code)) return 3;
  return error.code === 'BELFRY_CONFIG_INVALID' || error.code === 'BELFRY_INVALID_ARGUMENT' ? 2 : 1;
}

export function reportError(error: unknown, asJson: boolean): void {
  const known = error instanceof BelfryError;
  const code = known ? error.code : 'BELFRY_INTERNAL';
  const message = error instanceof Error ? error.message : String(error);
  if (asJson) {
    const { field, limit } = known ? error : {};
    process.stderr.write(
      `${JSON.stringify({ code, message, ...(field === undefined ? {} : { field }), ...(limit === undefined ? {} : { limit }) })}\n`,
    );
    return;
  }
  process.stderr.write(`${errorColors.red('error')} ${message} ${errorColors.dim(`(${code})`)}\n`);
  if (!known && error instanceof Error && error.stack !== undefined)
    process.stderr.write(`${errorColors.dim(error.stack)}\n`);
}

/** Aligned columns; the first row is the header. */
export function table(rows: readonly (readonly (string | number)[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => String(row[column] ?? '').length)));
  return rows
    .map((row, position) => {
      const line = row
        .map((cell, column) => String(cell).padEnd(widths[column] as number))
        .join('  ')
        .trimEnd();
      return position === 0 ? colors.dim(line) : line;
    })
    .join('\n');
}

export function formatBytes(bytes: number): string {
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  let unit = 0;
  let value = bytes;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${value >= 100 || unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}
