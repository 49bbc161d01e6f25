/**
 * Calibration of a score: a small JSON file beside the model, fitted after training, that turns its score into a
 * probability. Forms and their checks; docs/rerank.md shows each.
 */
import { readFile } from 'node:fs/promises';
import { type Static, Type } from 'typebox';
import { Value } from 'typebox/value';
import { explain, type SchemaError } from '../config/explain.js';
import { BelfryError, show } from '../errors.js';

const strict = { additionalProperties: false } as const;
const POINTS_MAX = 100_000;
const modelSha256 = Type.Optional(
  Type.String({ pattern: '^[0-9a-f]{64}$', description: 'of the model that it was fitted for' }),
);
const Points = Type.Array(Type.Number(), { minItems: 2, maxItems: POINTS_MAX });

const Platt = Type.Object(
  { kind: Type.Literal('platt'), a: Type.Number({ exclusiveMinimum: 0 }), b: Type.Number(), model_sha256: modelSha256 },
  strict,
);
const Temperature = Type.Object(
  {
    kind: Type.Literal('temperature'),
    temperature: Type.Number({ exclusiveMinimum: 0 }),
    model_sha256: modelSha256,
  },
  strict,
);
const Isotonic = Type.Object(
  { kind: Type.Literal('isotonic'), x: Points, y: Points, model_sha256: modelSha256 },
  strict,
);
const FORMS = { platt: Platt, temperature: Temperature, isotonic: Isotonic } as const;

export interface Calibration {
  readonly kind: keyof typeof FORMS;
  /** Platt and temperature end in a sigmoid of their own, so they take the score before one. */
  readonly takesLogits: boolean;
  readonly modelSha256?: string | undefined;
  readonly apply: (score: number) => number;
}

/** `name` is the path in the models folder. Error: BELFRY_CALIBRATION_INVALID. */
export async function readCalibration(path: string, name: string): Promise<Calibration> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(await readFile(path, 'utf8'));
  } catch (error) {
    throw calibrationInvalid(name, (error as Error).message, error);
  }
  return calibrationOf(parsed, name);
}

export function calibrationOf(parsed: unknown, name: string): Calibration {
  const kind = (parsed as { kind?: unknown } | null)?.kind;
  if (typeof kind !== 'string' || !Object.hasOwn(FORMS, kind)) {
    throw calibrationInvalid(
      name,
      `kind: expected ${Object.keys(FORMS).join(', ')}, received ${kind === undefined ? 'nothing' : show(kind)}`,
    );
  }
  const schema = FORMS[kind as keyof typeof FORMS];
  if (!Value.Check(schema, parsed)) {
    const { message } = explain([...Value.Errors(schema, parsed)] as SchemaError[], parsed);
    throw calibrationInvalid(name, message);
  }
  const form = parsed as Static<typeof Platt> | Static<typeof Temperature> | Static<typeof Isotonic>;
  const common = { kind: form.kind, modelSha256: form.model_sha256 };
  if (form.kind === 'isotonic')
    return { ...common, takesLogits: false, apply: table(form, (reason) => calibrationInvalid(name, reason)) };
  const [a, b] = form.kind === 'platt' ? [form.a, form.b] : [1 / form.temperature, 0];
  return { ...common, takesLogits: true, apply: (score) => 1 / (1 + Math.exp(-(a * score + b))) };
}

/** Linear between the points, constant beyond the first and the last, as scikit-learn's with `out_of_bounds="clip"`. */
function table({ x, y }: Static<typeof Isotonic>, refuse: (reason: string) => BelfryError): (score: number) => number {
  if (x.length !== y.length) throw refuse(`x has ${x.length} points and y ${y.length}; they go in pairs`);
  for (let at = 1; at < x.length; at++) {
    if (!(x[at]! > x[at - 1]!)) throw refuse(`x.${at}: expected more than ${x[at - 1]}, received ${x[at]}`);
    if (!(y[at]! >= y[at - 1]!)) throw refuse(`y.${at}: expected at least ${y[at - 1]}, received ${y[at]}`);
  }
  const xs = Float64Array.from(x);
  const ys = Float64Array.from(y);
  const last = xs.length - 1;
  return (score) => {
    if (Number.isNaN(score)) return score;
    if (score <= xs[0]!) return ys[0]!;
    if (score >= xs[last]!) return ys[last]!;
    let [low, high] = [0, last];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (xs[middle]! <= score) low = middle;
      else high = middle;
    }
    const share = (score - xs[low]!) / (xs[high]! - xs[low]!);
    return ys[low]! + share * (ys[high]! - ys[low]!);
  };
}

function calibrationInvalid(name: string, reason: string, cause?: unknown): BelfryError {
  return new BelfryError('BELFRY_CALIBRATION_INVALID', `${name}: ${reason}; fit it again, or correct the file`, {
    field: name,
    ...(cause === undefined ? {} : { cause }),
  });
}
