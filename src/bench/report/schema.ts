/**
 * The report of every `belfry bench` command: data only, from which JSON, Markdown, SVG and HTML are made.
 *
 * A measurement fills `summary` (what `bench compare` compares), `tables` and `plots`; the renderers know nothing of what
 * was measured. Times are milliseconds, shares are 0 to 1, memory is bytes: the unit stands beside each number.
 */
import { type Static, type TProperties, Type } from 'typebox';
import { Value } from 'typebox/value';
import { BelfryError } from '../../errors.js';

const strict = <T extends TProperties>(properties: T) => Type.Object(properties, { additionalProperties: false });
const literals = <const T extends string[]>(...values: T) => Type.Enum(values as [...T]);

/** Raised when a field changes its meaning; `bench compare` reads only its own. */
export const REPORT_FORMAT = 1;

/** How a number is shown: `ms` 1.23 ms, `share` 98.7 %, `rate` 1,234 /s, `bytes` 1.2 MB, `count` 1,234, `ratio` 1.23x. */
const Unit = literals('ms', 'seconds', 'share', 'rate', 'bytes', 'count', 'ratio', 'score', 'number');
export type Unit = Static<typeof Unit>;

const Cell = Type.Union([Type.String(), Type.Number(), Type.Boolean(), Type.Null()]);
export type Cell = Static<typeof Cell>;

const MetricValue = strict({
  /** Stable name, what `bench compare` joins by: `latency_p99`, `recall_at_10`. */
  name: Type.String({ pattern: '^[a-z][a-z0-9_.]*$' }),
  label: Type.String(),
  /** The median of `samples` where there are several, of shares their mean; null: it could not be measured. */
  value: Type.Union([Type.Number(), Type.Null()]),
  unit: Unit,
  /** Which way is good; `none` is shown, and is never a regression. */
  better: literals('higher', 'lower', 'none'),
  /** One value a repeat (or a slice of the run), from which `bench compare` takes its interval. */
  samples: Type.Optional(Type.Array(Type.Number())),
  note: Type.Optional(Type.String()),
});
export type MetricValue = Static<typeof MetricValue>;

/** A limit that the user set (`--max-p99 20`); one that fails makes exit code 3. */
const Gate = strict({
  name: Type.String(),
  limit: Type.Number(),
  value: Type.Union([Type.Number(), Type.Null()]),
  unit: Unit,
  passed: Type.Boolean(),
});
export type Gate = Static<typeof Gate>;

const Table = strict({
  id: Type.String({ pattern: '^[a-z][a-z0-9-]*$' }),
  title: Type.String(),
  columns: Type.Array(strict({ label: Type.String(), unit: Type.Optional(Unit) })),
  /** A number is shown in the unit of its column; null is shown as a dash. */
  rows: Type.Array(Type.Array(Cell)),
  note: Type.Optional(Type.String()),
});
export type Table = Static<typeof Table>;

const Axis = strict({
  label: Type.String(),
  unit: Type.Optional(Unit),
  /**
   * `nines` draws 0.9, 0.99 and 0.999 equally far apart: for percentiles and recall. `log` needs values above 0.
   * `category` takes x as positions in `categories`.
   */
  scale: literals('linear', 'log', 'nines', 'category'),
  categories: Type.Optional(Type.Array(Type.String())),
  /** Ends of the axis; default what the points need. */
  min: Type.Optional(Type.Number()),
  max: Type.Optional(Type.Number()),
});
export type Axis = Static<typeof Axis>;

const PlotSeries = strict({
  name: Type.String(),
  /** x, y and, where a point has a name of its own (`ef 64`), the name. NaN is not JSON: leave the point out. */
  points: Type.Array(
    Type.Union([Type.Tuple([Type.Number(), Type.Number()]), Type.Tuple([Type.Number(), Type.Number(), Type.String()])]),
  ),
  /** `line` with dots where there are few points; `steps` holds a value until the next; `area` stacks upon the one before. */
  style: literals('line', 'dots', 'steps', 'area', 'bars'),
  /** A second y axis is never drawn: a series of another unit gets a plot of its own. `muted`: context, drawn grey. */
  muted: Type.Optional(Type.Boolean()),
});
export type PlotSeries = Static<typeof PlotSeries>;

const Plot = strict({
  id: Type.String({ pattern: '^[a-z][a-z0-9-]*$' }),
  title: Type.String(),
  /** One sentence below the title: how to read it. */
  note: Type.Optional(Type.String()),
  x: Axis,
  y: Axis,
  series: Type.Array(PlotSeries),
  /** Moments or limits: a line across the plot at x, or at y, with its label. */
  marks: Type.Optional(
    Type.Array(strict({ x: Type.Optional(Type.Number()), y: Type.Optional(Type.Number()), label: Type.String() })),
  ),
});
export type Plot = Static<typeof Plot>;

/** What the reader should know before quoting a number. */
const Warning = strict({
  /** Stable, kebab-case: `generator-is-the-limit`, `norm-skew`. */
  code: Type.String({ pattern: '^[a-z][a-z0-9-]*$' }),
  message: Type.String(),
});
export type Warning = Static<typeof Warning>;

export const BenchReport = strict({
  format: Type.Literal(REPORT_FORMAT),
  bench: literals('recall', 'load', 'quality', 'compare', 'suite'),
  title: Type.String(),
  /** One or two sentences: what was measured, on what. */
  subject: Type.String(),
  /** The command that repeats it, as typed. */
  command: Type.String(),
  /** ISO 8601, UTC. */
  started: Type.String(),
  seconds: Type.Number(),
  machine: strict({
    cpu: Type.String(),
    cores: Type.Integer(),
    memory_bytes: Type.Number(),
    os: Type.String(),
    /** Instruction sets whose kernels run here, fastest first; empty where no index was opened. */
    kernels: Type.Array(Type.String()),
  }),
  versions: strict({ belfry: Type.String(), node: Type.String(), commit: Type.Optional(Type.String()) }),
  /** All that shaped the run: flags with their defaults filled in, generation id, rows, dims, metric. */
  settings: Type.Record(Type.String(), Type.Unknown()),
  summary: Type.Array(MetricValue),
  gates: Type.Array(Gate),
  tables: Type.Array(Table),
  plots: Type.Array(Plot),
  warnings: Type.Array(Warning),
});
export type BenchReport = Static<typeof BenchReport>;

/** Reads a report that somebody else may have written. Errors: BELFRY_BENCH_REPORT naming the file and the field. */
export function parseReport(text: string, file: string): BenchReport {
  const refuse = (why: string, cause?: unknown) =>
    new BelfryError('BELFRY_BENCH_REPORT', `${file}: ${why}`, { field: file, cause });
  let report: unknown;
  try {
    report = JSON.parse(text);
  } catch (error) {
    throw refuse(`not JSON (${(error as Error).message}); give the report.json of a belfry bench --out folder`, error);
  }
  const { format } = (report ?? {}) as { format?: unknown };
  if (format !== REPORT_FORMAT)
    throw refuse(`expected a bench report of format ${REPORT_FORMAT}, received ${JSON.stringify(format) ?? 'none'}`);
  if (Value.Check(BenchReport, report)) return report;
  const [first] = Value.Errors(BenchReport, report);
  throw refuse(`${first?.instancePath ?? '/'} ${first?.message ?? 'does not follow the report schema'}`);
}
