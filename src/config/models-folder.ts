/**
 * The conventions of a models folder (docs: embeddings/README.md): which files it holds, its registry and its export
 * description. Nothing here opens a vector or a model.
 */
import { lstatSync, readdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { dirname, extname, join, relative, sep } from 'node:path';
import { type Static, type TSchema, Type } from 'typebox';
import { Value } from 'typebox/value';
import { parse as parseYaml } from 'yaml';
import { BelfryError, type ErrorCode } from '../errors.js';
import { explain, type SchemaError } from './explain.js';
import {
  type BroughtModels,
  type MlflowPin,
  type MlflowReference,
  MlflowReferenceSchema,
  referenceText,
} from './mlflow.js';

const EXCLUSIONS = 'exclusions';
const EXCLUSION_KINDS = ['.parquet', '.txt', '.json'];
const EXCLUSION_NAME = /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$/;
const EXCLUSION_SETS_MAX = 64;

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

/** Path in the models folder → SHA-256 of the file. */
export const ListedFilesSchema = Type.Record(Type.String(), Type.String({ pattern: '^[0-9a-f]{64}$' }));
const ExportSchema = Type.Object({
  model: Type.Optional(Type.String()),
  version: Type.Optional(Type.String()),
  metric: Type.Optional(Type.Union([Type.Literal('ip'), Type.Literal('cosine'), Type.Literal('l2')])),
  normalised: Type.Optional(Type.Boolean()),
  created: Type.Optional(Type.String()),
  checkpoint: Type.Optional(Type.String()),
  dims: Type.Optional(Type.Integer({ minimum: 1 })),
  // Users that examples and the page begin with.
  example_users: Type.Optional(Type.Array(Type.Union([Type.String(), Type.Integer()]), { maxItems: 16 })),
  files: Type.Optional(ListedFilesSchema),
});
export type ExportDescription = Static<typeof ExportSchema>;

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

/** A named list of items to leave out: `exclusions/<name>.parquet`, `.txt` or `.json`. */
export interface ExclusionFile {
  readonly name: string;
  /** Relative to the models folder. */
  readonly path: string;
}

export interface ModelsFolder {
  readonly path: string;
  /** Relative paths of what is there. */
  readonly itemEmbeddings: string;
  readonly userEmbeddings?: string;
  readonly itemIds?: string;
  readonly userIds?: string;
  readonly items?: string;
  readonly users?: string;
  /** By name. */
  readonly exclusions: readonly ExclusionFile[];
  readonly exportDescription: ExportDescription;
  readonly models: readonly ModelRow[];
  /** The row that serves as user tower; absent when the folder has none. */
  readonly userTower?: ModelRow;
  readonly brought?: BroughtModels;
}

/**
 * Reads the folder's conventions. Errors: BELFRY_MODELS_FOLDER, BELFRY_REGISTRY_INVALID, BELFRY_EXPORT_INVALID,
 * BELFRY_EXCLUSIONS_INVALID. `brought` holds the models that the registry takes from MLflow; where they do not matter,
 * rows of such models can be left out.
 */
export function readModelsFolder(path: string, brought?: BroughtModels | 'left out'): ModelsFolder {
  if (!isDirectory(path)) {
    throw new BelfryError('BELFRY_MODELS_FOLDER', `models folder ${path} does not exist or is not a folder`, {
      field: 'models',
    });
  }
  const itemEmbeddings = first(path, ['embeddings/item_embeddings.npy']);
  if (itemEmbeddings === undefined) {
    throw new BelfryError(
      'BELFRY_MODELS_FOLDER',
      `${path} holds no embeddings/item_embeddings.npy; export the item tower's output there (N x dims, f2, f4 or f8)`,
      { field: 'models' },
    );
  }
  const models = readRegistry(path, brought);
  const userTower = chooseTower(models);
  return {
    path,
    itemEmbeddings,
    ...optional('userEmbeddings', first(path, ['embeddings/user_embeddings.npy'])),
    ...optional('itemIds', first(path, ['embeddings/item_ids.npy', 'embeddings/item_ids.txt'])),
    ...optional('userIds', first(path, ['embeddings/user_ids.npy', 'embeddings/user_ids.txt'])),
    ...optional('items', first(path, ['features/items.parquet'])),
    ...optional('users', first(path, ['features/users.parquet'])),
    exclusions: readExclusionFiles(path),
    exportDescription: readExport(path),
    models,
    ...optional('userTower', userTower),
    ...optional('brought', brought === 'left out' ? undefined : brought),
  };
}

/** Where a file of the folder, or of a model that was brought, is on this machine. */
export function fileOf({ path: folder, brought }: ModelsFolder, path: string): string {
  const isBrought = Object.values(brought?.models ?? {}).some((model) => dirname(model.path) === dirname(path));
  return isBrought ? join(brought!.folder, path) : join(folder, path);
}

/** What the registry of a folder takes from MLflow, each once. Error: BELFRY_REGISTRY_INVALID. */
export function mlflowReferences(folder: string): MlflowReference[] {
  const { rows = [] } = parseRegistry(folder) ?? {};
  const found = rows.flatMap(({ mlflow, stage }) => (mlflow === undefined || stage === 'archived' ? [] : [mlflow]));
  return [...new Map(found.map((one) => [referenceText(one), one])).values()];
}

/**
 * The absolute path of a file that the registry names. Absolute paths, `..` and links that leave the folder are
 * refused: a registry must not be able to reach other files of the machine.
 */
export function insideFolder(
  folder: string,
  path: string,
  field: string,
  code: ErrorCode = 'BELFRY_REGISTRY_INVALID',
): string {
  const full = join(folder, path);
  const outside = (target: string) => {
    const way = relative(realpathSync(folder), target);
    return way.startsWith(`..${sep}`) || way === '..' || way.startsWith(sep);
  };
  if (path.startsWith('/') || path.includes('\0') || relative(folder, full).startsWith('..')) {
    throw new BelfryError(code, `${field}: ${path} leaves the models folder; use a path inside it`, { field });
  }
  try {
    lstatSync(full);
  } catch (error) {
    throw new BelfryError(code, `${field}: ${path} does not exist in ${folder}`, { field, cause: error });
  }
  if (outside(realpathSync(full))) {
    throw new BelfryError(code, `${field}: ${path} is a link that leaves the models folder`, { field });
  }
  return full;
}

type WrittenRow = Static<typeof ModelRowSchema>;

function parseRegistry(folder: string): { file: string; rows: readonly WrittenRow[] } | undefined {
  const file = first(folder, ['registry.yaml', 'registry.yml']);
  if (file === undefined) return undefined;
  const parsed = parse(join(folder, file), parseYaml, 'BELFRY_REGISTRY_INVALID');
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

function readRegistry(folder: string, brought: BroughtModels | 'left out' | undefined): ModelRow[] {
  const registry = parseRegistry(folder);
  if (registry === undefined) return conventionRows(folder);
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

/** Files of other kinds (a note, a checksum) are none of ours. */
function readExclusionFiles(folder: string): ExclusionFile[] {
  if (!isDirectory(join(folder, EXCLUSIONS))) return [];
  const files = readdirSync(join(folder, EXCLUSIONS)).filter((file) => EXCLUSION_KINDS.includes(extname(file)));
  const sets = files
    .sort()
    .map((file) => ({ name: file.slice(0, -extname(file).length), path: `${EXCLUSIONS}/${file}` }));
  const refuse = (path: string, reason: string) =>
    new BelfryError('BELFRY_EXCLUSIONS_INVALID', `${path}: ${reason}`, { field: path });
  if (sets.length > EXCLUSION_SETS_MAX)
    throw refuse(EXCLUSIONS, `expected at most ${EXCLUSION_SETS_MAX} sets, found ${sets.length}`);
  const seen = new Map<string, string>();
  for (const { name, path } of sets) {
    if (!EXCLUSION_NAME.test(name)) {
      throw refuse(path, 'expected a name of 1 to 64 letters, digits, hyphens, underscores and dots, the first no dot');
    }
    const other = seen.get(name);
    if (other !== undefined) throw refuse(path, `${other} has the same name; keep one of them`);
    seen.set(name, path);
    insideFolder(folder, path, path, 'BELFRY_EXCLUSIONS_INVALID');
  }
  return sets;
}

/** Without a registry: the files that the conventions name, all in production. */
function conventionRows(folder: string): ModelRow[] {
  const rows: ModelRow[] = [];
  const version = readExport(folder).version ?? '0';
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

function chooseTower(models: readonly ModelRow[]): ModelRow | undefined {
  const towers = models.filter((row) => row.role === 'user_tower' && row.format === 'onnx' && row.server === undefined);
  return towers.find((row) => row.stage === 'production') ?? towers.find((row) => row.stage === 'ab-test');
}

function readExport(folder: string): ExportDescription {
  const file = first(folder, ['embeddings/export.json']);
  if (file === undefined) return {};
  const parsed = parse(join(folder, file), JSON.parse, 'BELFRY_EXPORT_INVALID');
  checkSchema(ExportSchema, parsed, file, 'BELFRY_EXPORT_INVALID');
  return parsed as ExportDescription;
}

function parse(path: string, parser: (text: string) => unknown, code: ErrorCode): unknown {
  try {
    const value = parser(readFileSync(path, 'utf8'));
    JSON.stringify(value); // YAML may refer to itself, which a manifest cannot hold and a walk never ends on
    return value;
  } catch (error) {
    const [reason] = (error as Error).message.split('\n');
    throw new BelfryError(code, `${path}: ${reason}`, { cause: error });
  }
}

function checkSchema(schema: TSchema, value: unknown, file: string, code: ErrorCode): void {
  if (Value.Check(schema, value)) return;
  const { field, message } = explain([...Value.Errors(schema, value)] as SchemaError[], value);
  throw new BelfryError(code, `${file}: ${message}`, { field });
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

function first(folder: string, candidates: readonly string[]): string | undefined {
  return candidates.find((one) => isFile(join(folder, one)));
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

function optional<K extends string, V>(key: K, value: V | undefined): { [P in K]?: V } {
  return value === undefined ? {} : ({ [key]: value } as { [P in K]?: V });
}
