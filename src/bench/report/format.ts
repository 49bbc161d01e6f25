/** How numbers are written, the same in the terminal, Markdown, SVG and HTML. */
import type { Cell, Unit } from './schema.js';

/** Three to four digits that say something; thousands apart. */
export function formatNumber(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size !== 0 && size < 0.001) return value.toExponential(1);
  const digits = size >= 100 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3;
  return value.toLocaleString('en-GB', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** A value with its unit; a dash for what is not known. */
export function formatValue(value: Cell, unit: Unit | undefined): string {
  if (value === null) return '–';
  if (typeof value !== 'number') return String(value);
  switch (unit) {
    case 'ms':
      return `${formatNumber(value)} ms`;
    case 'seconds':
      return `${formatNumber(value)} s`;
    case 'share':
      return formatShare(value);
    case 'rate':
      return `${formatNumber(value)} /s`;
    case 'bytes':
      return formatBytes(value);
    case 'ratio':
      return `${formatNumber(value)}x`;
    case 'count':
      return value.toLocaleString('en-GB', { maximumFractionDigits: 0 });
    case 'score':
      return value.toFixed(4);
    default:
      return formatNumber(value);
  }
}

/** Percent; near 100 % with the digits that make the difference, and never rounded up to it. */
function formatShare(value: number): string {
  const percent = value * 100;
  const gap = Math.min(Math.abs(100 - percent), Math.abs(percent));
  const digits = gap === 0 ? 0 : gap >= 10 ? 1 : gap >= 0.1 ? 2 : 3;
  const cut = percent < 100 && percent > 50 ? Math.floor(percent * 10 ** digits + 1e-7) / 10 ** digits : percent;
  return `${cut.toFixed(digits)} %`;
}

function formatBytes(bytes: number): string {
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  let unit = 0;
  let value = bytes;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${value >= 100 || unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** The machine in one line. */
export function formatMachine(
  {
    cpu,
    cores,
    memory_bytes,
    os,
    kernels,
  }: { cpu: string; cores: number; memory_bytes: number; os: string; kernels: readonly string[] },
  { belfry, node, commit }: { belfry: string; node: string; commit?: string | undefined },
): string {
  const with_ = kernels.length > 0 ? ` (${kernels.join(', ')})` : '';
  return `${cpu}${with_}, ${cores} cores, ${formatBytes(memory_bytes)}, ${os}; Belfry ${belfry}${commit === undefined ? '' : ` at ${commit}`}, Node ${node}`;
}
