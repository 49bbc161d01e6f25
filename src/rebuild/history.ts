/**
 * What became of the last builds of a data folder: `builds.json` in it, newest last, for every process that serves from
 * it or builds into it.
 */
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Static, Type } from 'typebox';
import { Value } from 'typebox/value';
import { replaceDurable } from '../generation/files.js';
import { GateResultSchema } from '../generation/manifest-schema.js';

const FILE = 'builds.json';
const KEPT = 50;

export const TRIGGERS = ['cli', 'api', 'start', 'export', 'schedule'] as const;
/** Who asked for a build: `belfry build`, POST /admin/rebuild, the start of a server, a new export, the schedule. */
export type Trigger = (typeof TRIGGERS)[number];

export const BuildRecordSchema = Type.Object(
  {
    started: Type.String({ description: 'When, in ISO 8601.' }),
    seconds: Type.Number(),
    trigger: Type.Enum(TRIGGERS),
    result: Type.Enum(['published', 'unchanged', 'failed', 'cancelled'], {
      description: 'unchanged: the newest generation was made from this very export.',
    }),
    generation: Type.Optional(Type.String({ description: 'What CURRENT named after it.' })),
    code: Type.Optional(Type.String({ description: 'Of the error that ended it.' })),
    message: Type.Optional(Type.String()),
    gates: Type.Optional(
      Type.Array(GateResultSchema, { description: 'Of a build that failed: what its gates measured before that.' }),
    ),
    stages: Type.Record(Type.String(), Type.Number(), { description: 'Seconds of each stage, in order.' }),
    peak_memory_bytes: Type.Optional(Type.Number({ description: 'Largest resident memory of the builder process.' })),
  },
  { additionalProperties: false },
);
export type BuildRecord = Static<typeof BuildRecordSchema>;

const Records = Type.Array(BuildRecordSchema);

export class BuildHistory {
  private readonly path: string;

  constructor(data: string) {
    this.path = join(data, FILE);
  }

  /** Oldest first. A file that is absent or of another form is an empty history: it is a convenience, no state. */
  async read(): Promise<BuildRecord[]> {
    try {
      const parsed: unknown = JSON.parse(await readFile(this.path, 'utf8'));
      return Value.Check(Records, parsed) ? parsed : [];
    } catch {
      return [];
    }
  }

  /**
   * Adds a record; the last 50 are kept. Builds are one at a time, so are their records. An unchanged export is worth a
   * line only where it ends a problem; false when it is not. Errors: those of the file system.
   */
  async add(record: BuildRecord): Promise<boolean> {
    const before = await this.read();
    if (record.result === 'unchanged' && problemOf(before) === undefined) return false;
    const kept = [...before, record].slice(-KEPT);
    await replaceDurable(this.path, `[\n${kept.map((one) => JSON.stringify(one)).join(',\n')}\n]\n`, 'report');
    return true;
  }

  /** Changes when somebody adds a record; 0 before the first. */
  async version(): Promise<number> {
    return (await stat(this.path).catch(() => undefined))?.mtimeMs ?? 0;
  }
}

/** The failure that is not yet made good: the newest export does not serve. */
export function problemOf(records: readonly BuildRecord[]): BuildRecord | undefined {
  const last = records.findLast(({ result }) => result !== 'cancelled');
  return last?.result === 'failed' ? last : undefined;
}
