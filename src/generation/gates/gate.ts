/** What a generation must pass before it goes live: each gate has a code, measurements with thresholds, and a verdict. */
import { BelfryError, type ErrorCode } from '../../errors.js';

export const GATE_CODES = {
  input: 'BELFRY_INPUT_GATE',
  skew: 'BELFRY_SKEW',
  recall: 'BELFRY_RECALL',
  canaries: 'BELFRY_CANARIES',
} as const satisfies Record<string, ErrorCode>;

export type GateName = keyof typeof GATE_CODES;
export const GATE_NAMES = Object.keys(GATE_CODES) as GateName[];

/** A number that was measured, and the bound that it must keep, if any. */
export interface Measurement {
  readonly what: string;
  readonly value: number;
  readonly min?: number;
  readonly max?: number;
}

export interface GateResult {
  readonly name: GateName;
  readonly code: ErrorCode;
  /** `overridden`: it failed, and the operator had said beforehand that it may. */
  readonly status: 'passed' | 'failed' | 'overridden' | 'not_checked';
  /** One sentence for people. */
  readonly detail: string;
  readonly measurements: readonly Measurement[];
}

/** What a gate has found. */
export interface Finding {
  /** One sentence for people. */
  readonly detail: string;
  readonly measurements: readonly Measurement[];
  /** What is to be done about a failure. */
  readonly cure: string;
  /** What failed besides measurements. */
  readonly failures?: readonly string[];
  /** The file or model at fault. */
  readonly field?: string;
}

/** Collects the verdicts of one build. */
export class Gatekeeper {
  readonly results: GateResult[] = [];

  constructor(
    private readonly overrides: ReadonlySet<GateName>,
    private readonly onResult: (result: GateResult) => void = () => undefined,
  ) {}

  /** Nothing to measure with; said in the report, and no failure. */
  skip(name: GateName, detail: string): void {
    this.add({ name, code: GATE_CODES[name], status: 'not_checked', detail, measurements: [] });
  }

  /** Throws the gate's code where something failed and is not overridden. */
  judge(name: GateName, { detail, measurements, cure, failures = [], field }: Finding): void {
    const broken = measurements.filter(isBroken);
    const hasFailed = broken.length > 0 || failures.length > 0;
    const status = !hasFailed ? 'passed' : this.overrides.has(name) ? 'overridden' : 'failed';
    this.add({ name, code: GATE_CODES[name], status, detail, measurements });
    if (status !== 'failed') return;
    const reasons = [...broken.map(explain), ...failures];
    const limit = broken[0]?.min ?? broken[0]?.max;
    throw new BelfryError(
      GATE_CODES[name],
      `${detail}; ${reasons.join('; ')}: ${cure}, or publish all the same with --override ${name}`,
      { field: field ?? name, ...(limit === undefined ? {} : { limit }) },
    );
  }

  private add(result: GateResult): void {
    this.results.push(result);
    this.onResult(result);
  }
}

/** A value that is no number breaks every bound. */
export function isBroken({ value, min, max }: Measurement): boolean {
  return (min !== undefined && !(value >= min)) || (max !== undefined && !(value <= max));
}

function explain({ what, value, min, max }: Measurement): string {
  const bound = min !== undefined && !(value >= min) ? `at least ${min}` : `at most ${max}`;
  return `${what}: ${bound} is expected, measured ${formatValue(value)}`;
}

export function formatValue(value: number): string {
  return Number.isInteger(value) ? String(value) : value.toFixed(4);
}
