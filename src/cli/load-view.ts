/** How a load goes, in the terminal: one line that is redrawn, with a spark line of the p99; elsewhere a line every five seconds. */
import { formatNumber } from '../bench/report/format.js';
import type { LiveView } from '../bench/load/run-load.js';

const BARS = '▁▂▃▄▅▆▇█';
const SPARK_WIDTH = 24;
const QUIET_MS = 5000;

export class LoadView {
  private title = '';
  private drawn = false;
  private saidAt = 0;
  private p99s: number[] = [];

  constructor(private readonly out: NodeJS.WriteStream = process.stderr) {}

  begin(title: string): void {
    this.title = title;
    this.p99s = [];
    this.saidAt = 0;
  }

  readonly update = (live: LiveView): void => {
    if (live.p99 !== null) this.p99s.push(live.p99);
    const isTerminal = this.out.isTTY === true;
    if (!isTerminal && live.elapsedMs - this.saidAt < QUIET_MS) return;
    this.saidAt = live.elapsedMs;
    const line = `${this.title}  ${this.line(live)}`;
    this.out.write(isTerminal ? `\r\x1b[2K${line.slice(0, this.out.columns - 1)}` : `${line}\n`);
    this.drawn = isTerminal;
  };

  private line({ elapsedMs, totalMs, isWarmup, askedRate, answered, errors, degraded, p50, p99 }: LiveView): string {
    const ms = (value: number | null) => (value === null ? '–' : formatNumber(value));
    const asked = askedRate === undefined ? '' : ` of ${formatNumber(askedRate)}`;
    const troubles = [errors > 0 ? `${errors} errors` : '', degraded > 0 ? `${degraded} degraded` : ''].filter(Boolean);
    return [
      isWarmup ? 'warm-up' : `${(elapsedMs / 1000).toFixed(0)}/${(totalMs / 1000).toFixed(0)} s`,
      `${formatNumber(answered * 4)}${asked} /s`,
      `p50 ${ms(p50)}  p99 ${ms(p99)} ms`,
      sparkLine(this.p99s.slice(-SPARK_WIDTH)),
      ...troubles,
    ].join('  ');
  }

  finish(): void {
    if (this.drawn) this.out.write('\n');
    this.drawn = false;
  }
}

/** On a logarithmic scale: a stall is a hundred times the rest. */
export function sparkLine(values: readonly number[]): string {
  if (values.length === 0) return '';
  const logs = values.map((value) => Math.log(Math.max(value, 1e-3)));
  const low = Math.min(...logs);
  const span = Math.max(Math.max(...logs) - low, Math.log(4)); // noise of a factor of two is no mountain
  return logs.map((log) => BARS[Math.min(7, Math.floor(((log - low) / span) * 8))]).join('');
}
