/** The model registry of a models folder: registry.yaml, or what the conventions name (docs/registry.md). */
import { join } from 'node:path';
import { type Static, Type } from 'typebox';
import { parse as parseYaml } from 'yaml';
import { BelfryError } from '../errors.js';
import { checkSchema, first, insideFolder, parseFile } from './folder-files.js';
import {
  type BroughtModels,
  type MlflowPin,
  type MlflowReference,
  MlflowReferenceSchema,
  referenceText,
} from './mlflow.js';

export const STAGES = ['production', 'ab-test', 'shadow', 'archived'] as const;
export type Stage = (typeof STAGES)[number];

const Name = Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$' });

/** `name` is a server of the settings; `model` and `version` are what that server calls this model. */
export const ServerSchema = Type.Object(
  { name: Type.Optional(Name), model: Type.Optional(Name), version: Type.Optional(Name) },
  { additionalProperties: false },
);
export type ModelServerRow = Static<typeof ServerSchema>;

const ModelRowSchema = Type.Object(
  {
    model: Type.String({ minLength: 1, maxLength: 64 }),
    // Of a model of MLflow: default the version there.
    version: Type.Optional(Type.String({ minLength: 1, maxLength: 64 })),
    format: Type.Union([Type.Literal('onnx'), Type.Literal('torchscript'), Type.Literal('tensorrt')]),
    // One of both.
    path: Type.Optional(Type.String({ minLength: 1 })),
    mlflow: Type.Optional(MlflowReferenceSchema),
    stage: Type.Union([
      Type.Literal('production'),
      Type.Literal('ab-test'),
      Type.Literal('shadow'),
      Type.Literal('staging'),
      Type.Literal('archived'),
    ]),
    role: Type.Optional(Type.Union([Type.Literal('user_tower'), Type.Literal('item_tower'), Type.Literal('reranker')])),
    sha256: Type.Optional(Type.String({ pattern: '^[0-9a-f]{64}$' })),
    notes: Type.Optional(Type.String()),
    // Where on a model server it runs. Its address stands in the settings of the process, never here.
    server: Type.Optional(ServerSchema),
    // Of an ab-test: share of the users that get it.
    share: Type.Optional(Type.Number({ minimum: 0, maximum: 1 })),
    // Most candidates that a reranker takes in one run.
    rows_max: Type.Optional(Type.Integer({ minimum: 1, maximum: 1 << 20 })),
    // The binding of inputs and output is checked where it is compiled (features/binding.ts).
    inputs: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
    output: Type.Optional(Type.Unknown()),
  },
  { additionalProperties: false },
);
const RegistrySchema = Type.Object(
  { models: Type.Array(ModelRowSchema, { maxItems: 256 }) },
  { additionalProperties: false },
);

export interface ModelRow {
  /** As written: `Two-Tower`. */
  readonly model: string;
  /** For machines: `two-tower`. */
  readonly name: string;
  readonly version: string;
  readonly format: 'onnx' | 'torchscript' | 'tensorrt';
  /** Relative to the models folder; a model of MLflow has one below `registry/`, see fileOf. */
  readonly path: string;
  readonly mlflow?: MlflowPin;
  readonly stage: Stage;
  readonly role: 'user_tower' | 'item_tower' | 'reranker';
  readonly sha256?: string;
  readonly notes?: string;
  /** Of a model that runs on a model server. */
  readonly server?: ModelServerRow;
  /** Of an ab-test: share of the users that get it. */
  readonly share?: number;
  /** Most candidates that a reranker takes in one run. */
  readonly rows_max?: number;
  readonly inputs?: Readonly<Record<string, unknown>>;
  readonly output?: unknown;
}

/** What the registry of a folder takes from MLflow, each once. Error: BELFRY_REGISTRY_INVALID. */
export function mlflowReferences(folder: string): MlflowReference[] {
  const { rows = [] } = parseRegistry(folder) ?? {};
  const found = rows.flatMap(({ mlflow, stage }) => (mlflow === undefined || stage === 'archived' ? [] : [mlflow]));
  return [...new Map(found.map((one) => [referenceText(one), one])).values()];
}

type WrittenRow = Static<typeof ModelRowSchema>;

function parseRegistry(folder: string): { file: string; rows: readonly WrittenRow[] } | undefined {
  const file = first(folder, ['registry.yaml', 'registry.yml']);
  if (file === undefined) return undefined;
  const parsed = parseFile(join(folder, file), parseYaml, 'BELFRY_REGISTRY_INVALID');
  checkSchema(RegistrySchema, parsed, file, 'BELFRY_REGISTRY_INVALID');
  const rows = (parsed as Static<typeof RegistrySchema>).models;
  for (const [at, { path, mlflow, version }] of rows.entries()) {
    const refuse = (field: string, reason: string) =>
      new BelfryError('BELFRY_REGISTRY_INVALID', `${file}: models.${at}${field}: ${reason}`, {
        field: `models.${at}${field}`,
      });
    if ((path === undefined) === (mlflow === undefined)) throw refuse('', 'expected path, or mlflow');
    if (path !== undefined && version === undefined) throw refuse('.version', 'is required');
    const which = [mlflow?.alias, mlflow?.version, mlflow?.stage].filter((one) => one !== undefined);
    if (mlflow !== undefined && which.length !== 1) throw refuse('.mlflow', 'expected one of alias, version, stage');
  }
  return { file, rows };
}

/**
 * Rows of registry.yaml, or of what the conventions name where there is none; `version` is that of the export. Error:
 * BELFRY_REGISTRY_INVALID.
 */
export function readRegistry(
  folder: string,
  version: string,
  brought: BroughtModels | 'left out' | undefined,
): ModelRow[] {
  const registry = parseRegistry(folder);
  if (registry === undefined) return conventionRows(folder, version);
  const { file } = registry;
  const rows = registry.rows.flatMap((row, position): ModelRow[] => {
    const { stage, role, mlflow, ...rest } = row;
    if (mlflow !== undefined && (brought === 'left out' || stage === 'archived')) return [];
    const placed = mlflow === undefined ? { path: row.path! } : broughtRow(row, brought as BroughtModels, file);
    if (mlflow === undefined) insideFolder(folder, placed.path, `${file}: models.${position}.path`);
    return [
      {
        ...rest,
        ...placed,
        name: slug(row.model),
        stage: stage === 'staging' ? 'shadow' : stage,
        role: role ?? roleOf(placed.path),
      } as ModelRow,
    ];
  });
  const seen = new Set<string>();
  for (const row of rows) {
    const key = `${row.name}@${row.version}`;
    if (seen.has(key)) {
      throw new BelfryError('BELFRY_REGISTRY_INVALID', `${file}: ${key} stands twice; give each row its own version`, {
        field: key,
      });
    }
    seen.add(key);
  }
  checkTraffic(rows, file);
  const towers = rows.filter((row) => row.role === 'user_tower' && row.stage === 'production');
  if (towers.length > 1) {
    const names = towers.map((row) => `${row.name}@${row.version}`).join(', ');
    throw new BelfryError('BELFRY_REGISTRY_INVALID', `${file}: one user tower can be in production, found ${names}`, {
      field: 'models',
    });
  }
  return rows;
}

function broughtRow(
  { version, mlflow, sha256 }: WrittenRow,
  brought: BroughtModels | undefined,
  file: string,
): Pick<ModelRow, 'version' | 'path' | 'mlflow' | 'sha256'> {
  const what = referenceText(mlflow!);
  const found = brought?.models[what];
  if (found === undefined) {
    throw new BelfryError(
      'BELFRY_REGISTRY_INVALID',
      `${file}: ${what} stands in MLflow and was not fetched; set mlflow_url`,
      {
        field: what,
      },
    );
  }
  return { version: version ?? found.pin.version, path: found.path, mlflow: found.pin, sha256: sha256 ?? found.sha256 };
}

/** One reranker serves; those under test say their share where there is one to share with. */
function checkTraffic(rows: readonly ModelRow[], file: string): void {
  const refuse = (reason: string, field: string) =>
    new BelfryError('BELFRY_REGISTRY_INVALID', `${file}: ${reason}`, { field });
  const of = (stage: Stage) => rows.filter((row) => row.role === 'reranker' && row.stage === stage);
  const label = (row: ModelRow) => `${row.name}@${row.version}`;
  const [production, tests] = [of('production'), of('ab-test')];
  if (production.length > 1)
    throw refuse(
      `one reranker can be in production, found ${production.map(label).join(', ')}; make the others ab-test or shadow`,
      'models',
    );
  const without = tests.find((row) => row.share === undefined);
  if (without !== undefined && (production.length > 0 || tests.some((row) => row.share !== undefined)))
    throw refuse(
      `${label(without)} is an ab-test beside others: say its share of the users, \`share: 0.1\``,
      label(without),
    );
  const idle = rows.find((row) => row.share !== undefined && (row.stage !== 'ab-test' || row.role !== 'reranker'));
  if (idle !== undefined) throw refuse(`${label(idle)}: \`share\` belongs to rerankers of stage ab-test`, label(idle));
  const sum = tests.reduce((total, { share }) => total + (share ?? 0), 0);
  if (sum > 1 + 1e-9)
    throw refuse(`the shares of ${tests.map(label).join(', ')} add up to ${sum}, more than 1`, 'models');
}

/** Without a registry: the files that the conventions name, all in production. */
function conventionRows(folder: string, version: string): ModelRow[] {
  const rows: ModelRow[] = [];
  const add = (model: string, role: ModelRow['role'], candidates: string[]) => {
    const path = first(folder, candidates);
    if (path === undefined || rows.some((row) => row.path === path)) return;
    rows.push({ model, name: model, version, format: 'onnx', path, stage: 'production', role });
  };
  add('two-tower', 'user_tower', ['exported/onnx/user_tower.onnx', 'exported/onnx/two_tower.onnx']);
  // A two_tower.onnx that is the user tower already is searched for its item part too.
  add('item-tower', 'item_tower', ['exported/onnx/item_tower.onnx', 'exported/onnx/two_tower.onnx']);
  add('dlrm', 'reranker', ['exported/onnx/dlrm.onnx']);
  return rows;
}

export function slug(name: string): string {
  return (
    name
      .toLowerCase()
      .replace(/[^a-z0-9._]+/g, '-')
      .replace(/^-+|-+$/g, '') || 'model'
  );
}

function roleOf(path: string): ModelRow['role'] {
  const file = path.split('/').pop() ?? '';
  if (/item[-_]?tower/i.test(file)) return 'item_tower';
  return /tower/i.test(file) ? 'user_tower' : 'reranker';
}
