/** How numbers and values read on the page. */
const whole = new Intl.NumberFormat('en-US');

export const count = (value: number): string => whole.format(value);

export function score(value: number): string {
  const size = Math.abs(value);
  return value.toFixed(size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 3).replace('-', '\u2212');
}

export function ms(value: number): string {
  return `${value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2)} ms`;
}

/** A metadata value in one line; undefined for one that is not there. */
export function plain(value: unknown): string | undefined {
  if (value === null || value === undefined || value === '') return undefined;
  if (Array.isArray(value)) return value.length === 0 ? undefined : value.map((one) => String(one)).join(', ');
  if (typeof value === 'number') return Number.isInteger(value) ? count(value) : String(value);
  if (typeof value === 'object') return JSON.stringify(value);
  return String(value);
}

export const label = (name: string): string => name.replaceAll('_', ' ');

export const plural = (amount: number, one: string, many = `${one}s`): string =>
  `${count(amount)} ${amount === 1 ? one : many}`;
