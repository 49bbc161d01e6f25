/**
 * The conventions of a models folder (docs: embeddings/README.md): which files it holds, its registry and its export
 * description. Nothing here opens a vector or a model.
 */
import { readdirSync } from 'node:fs';
import { dirname, extname, join } from 'node:path';
import { type Static, Type } from 'typebox';
import { BelfryError } from '../errors.js';
import { checkSchema, first, insideFolder, isDirectory, optional, parseFile } from './folder-files.js';
import type { BroughtModels } from './mlflow.js';
import { type ModelRow, readRegistry } from './registry.js';

export { insideFolder } from './folder-files.js';
export type { ModelRow } from './registry.js';

const EXCLUSIONS = 'exclusions';
const EXCLUSION_KINDS = ['.parquet', '.txt', '.json'];
const EXCLUSION_NAME = /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$/;
const EXCLUSION_SETS_MAX = 64;

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
  const exportDescription = readExport(path);
  const models = readRegistry(path, exportDescription.version ?? '0', brought);
  const userTower = chooseTower(models);
  return {
    path,
    itemEmbeddings,
    ...optional('userEmbeddings', first(path, ['embeddings/user_embeddings.npy'])),
    ...optional('itemIds', first(path, ['embeddings/item_ids.npy', 'embeddings/item_ids.txt'])),
    ...optional('userIds', first(path, ['embeddings/user_ids.npy', 'embeddings/user_ids.txt'])),
    ...optional('items', first(path, ['features/items.parquet'])),
    ...optional('users', first(path, ['features/users.parquet']) ?? npyTable(path, 'features/users')),
    exclusions: readExclusionFiles(path),
    exportDescription,
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

/** A feature table as a folder of `.npy` files: it has its ids beside it. */
function npyTable(path: string, folder: string): string | undefined {
  return first(path, [`${folder}/id.npy`]) === undefined ? undefined : folder;
}

/** Files of a table: itself, or those of its folder; relative paths. */
export function tableFiles(folder: string, table: string): string[] {
  if (!isDirectory(join(folder, table))) return [table];
  const files = readdirSync(join(folder, table)).filter((file) => file.endsWith('.npy'));
  return files.sort().map((file) => `${table}/${file}`);
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

function chooseTower(models: readonly ModelRow[]): ModelRow | undefined {
  const towers = models.filter((row) => row.role === 'user_tower' && row.format === 'onnx' && row.server === undefined);
  return towers.find((row) => row.stage === 'production') ?? towers.find((row) => row.stage === 'ab-test');
}

function readExport(folder: string): ExportDescription {
  const file = first(folder, ['embeddings/export.json']);
  if (file === undefined) return {};
  const parsed = parseFile(join(folder, file), JSON.parse, 'BELFRY_EXPORT_INVALID');
  checkSchema(ExportSchema, parsed, file, 'BELFRY_EXPORT_INVALID');
  return parsed as ExportDescription;
}
