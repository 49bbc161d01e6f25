/**
 * The models of a folder that run in process, opened and bound: the user tower and the rerankers. A models folder and a
 * generation have the same layout, so this serves the build's checks, `doctor` and the load alike.
 */
import { join } from 'node:path';
import type { TSchema } from 'typebox';
import { Value } from 'typebox/value';
import { explain, type SchemaError } from '../config/explain.js';
import { DEFAULT_SERVER, type ModelServerSettings } from '../config/model-servers.js';
import { insideFolder, type ModelRow } from '../config/models-folder.js';
import { BelfryError } from '../errors.js';
import {
  type InputBindings,
  InputBindingSchema,
  type OutputBinding,
  OutputBindingSchema,
} from '../features/binding-schema.js';
import type { FeatureTable } from '../features/feature-table.js';
import { readVocabularyFile, type VocabularySources } from '../features/vocabulary.js';
import { ModuleReranker } from '../rerank/module-reranker.js';
import { loadOnnx } from '../inference/onnx-file.js';
import { type Calibration, readCalibration } from '../rerank/calibration.js';
import { calibrationFiles } from '../rerank/score-output.js';
import type { BoundScorer } from '../rerank/bound-scorer.js';
import { checkGolden, goldenPath } from '../rerank/golden.js';
import { openOnnxReranker } from '../rerank/onnx-reranker.js';
import { GuardedReranker, type OnRerankerState } from '../rerank/guarded-reranker.js';
import { KserveReranker } from '../rerank/kserve/kserve-reranker.js';
import { ItemTower } from '../tower/item-tower.js';
import { UserTower } from '../tower/user-tower.js';
import type { Id } from '../types.js';
import { exists } from './files.js';
import { runsInProcess, runsOnServer } from './sources.js';

export interface ModelContext {
  /** Folder that the paths of the rows are relative to. */
  readonly folder: string;
  /** Where a file is that is not in the folder: models brought from a registry, before they are in a generation. */
  readonly fileOf?: ((path: string) => string) | undefined;
  readonly rows: readonly ModelRow[];
  readonly dims: number;
  readonly users: FeatureTable;
  /** In item-row order. */
  readonly items: FeatureTable;
  readonly itemIds: () => readonly Id[];
  readonly userIds: () => readonly Id[];
  /** Upserts were folded into the items. */
  readonly hasChangedItems?: boolean | undefined;
  readonly workers?: number | undefined;
  readonly scorerWorkers?: number | undefined;
  /** A reranker in code, from the settings (never from data). */
  readonly rerankModule?: string | undefined;
  /** Where rerankers run that do not run in process; from the settings (never from data). */
  readonly modelServers?: readonly ModelServerSettings[] | undefined;
  readonly onRerankerState?: OnRerankerState | undefined;
  /** Another generation serves meanwhile. */
  readonly isBackground?: boolean | undefined;
}

export interface OpenModels {
  readonly tower?: UserTower;
  /** Why there is no tower though the folder has one: nothing says how to bind its inputs. */
  readonly towerProblem?: string;
  /** Best first: production, then ab-test, then shadow. */
  readonly rerankers: readonly GuardedReranker[];
  /** Rerankers that cannot run, with the reason: nothing binds their inputs, or no server runs them. */
  readonly rerankerProblems: readonly string[];
}

/** Errors: BELFRY_REGISTRY_INVALID, BELFRY_BINDING_MISMATCH, BELFRY_MODEL_INVALID, BELFRY_FEATURES_INVALID, BELFRY_GOLDEN. */
export async function openModels(context: ModelContext): Promise<OpenModels> {
  const opened: { close(): Promise<void> }[] = [];
  const keep = <T extends { close(): Promise<void> }>(model: T): T => {
    opened.push(model);
    return model;
  };
  try {
    const rerankers: GuardedReranker[] = [];
    const rerankerProblems: string[] = [];
    for (const row of rerankerRows(context.rows)) {
      if (row.inputs === undefined) {
        rerankerProblems.push(`${labelOf(row)}: registry.yaml does not say what its inputs are (inputs:)`);
        continue;
      }
      const server = serverOf(row, context);
      if (typeof server === 'string') {
        rerankerProblems.push(`${labelOf(row)}: ${server}`);
        continue;
      }
      try {
        rerankers.push(keep(await openReranker(row, context, server)));
      } catch (error) {
        // Nobody sees what a shadow scores: it must not keep new embeddings from going live.
        if (row.stage !== 'shadow' || !(error instanceof BelfryError) || error.code !== 'BELFRY_GOLDEN') throw error;
        rerankerProblems.push(`${labelOf(row)}: ${error.message}`);
      }
    }
    if (context.rerankModule !== undefined) {
      rerankers.unshift(
        keep(
          new GuardedReranker(
            await ModuleReranker.open({
              name: 'module',
              version: '0',
              modulePath: context.rerankModule,
              items: context.items,
            }),
            { onState: context.onRerankerState },
          ),
        ),
      );
    }
    const known = new Set(rerankers.flatMap((reranker) => reranker.needs.user));
    const { tower, towerProblem } = await openTower(context, known);
    if (tower !== undefined) keep(tower);
    return {
      ...(tower === undefined ? {} : { tower }),
      ...(towerProblem === undefined ? {} : { towerProblem }),
      rerankers,
      rerankerProblems,
    };
  } catch (error) {
    await Promise.all(opened.map((model) => model.close()));
    throw error;
  }
}

/**
 * The item tower: the model of that role, else the item part of a user tower's file that holds both. Undefined when there
 * is neither. Errors: BELFRY_REGISTRY_INVALID, BELFRY_BINDING_MISMATCH, BELFRY_MODEL_INVALID, BELFRY_FEATURES_INVALID.
 */
export async function openItemTower(context: ModelContext): Promise<ItemTower | undefined> {
  const own = inProduction(context.rows, 'item_tower');
  const row = own ?? inProduction(context.rows, 'user_tower');
  if (row === undefined) return undefined;
  const modelPath = placeOf(row.path, context);
  const { inputs, output } = bindingOf(row);
  if (own === undefined) {
    const { graph } = (await loadOnnx(modelPath, labelOf(row), row.sha256)).model;
    if (graph.outputs.length < 2) return undefined;
  }
  return ItemTower.open({
    name: labelOf(row),
    modelPath,
    ...(row.sha256 === undefined ? {} : { sha256: row.sha256 }),
    ...(inputs === undefined ? {} : { inputs }),
    ...(own === undefined || output === undefined ? {} : { output }),
    dims: context.dims,
    items: context.items,
    vocabularies: vocabulariesOf(context),
  });
}

function placeOf(path: string, { folder, fileOf }: ModelContext): string {
  return fileOf?.(path) ?? join(folder, path);
}

export function labelOf({ name, version }: Pick<ModelRow, 'name' | 'version'>): string {
  return `${name}@${version}`;
}

async function openTower(
  context: ModelContext,
  alsoKnown: ReadonlySet<string>,
): Promise<{ tower?: UserTower; towerProblem?: string }> {
  const row = inProduction(context.rows, 'user_tower');
  if (row === undefined) return {};
  try {
    return {
      tower: await UserTower.open({
        name: labelOf(row),
        modelPath: placeOf(row.path, context),
        ...bindingOf(row),
        ...(row.sha256 === undefined ? {} : { sha256: row.sha256 }),
        dims: context.dims,
        isBackground: context.isBackground,
        users: context.users,
        vocabularies: vocabulariesOf(context),
        alsoKnown,
        ...(context.workers === undefined ? {} : { workers: context.workers }),
      }),
    };
  } catch (error) {
    // Nothing was declared, so nothing is broken: the tower is simply not usable, and says why when it is asked for.
    const isUndeclared =
      row.inputs === undefined && error instanceof BelfryError && error.code === 'BELFRY_BINDING_MISMATCH';
    if (isUndeclared) return { towerProblem: error.message };
    throw error;
  }
}

/** The server that runs a reranker; undefined where it runs in process, a reason where no server does. */
function serverOf(row: ModelRow, { modelServers = [] }: ModelContext): ModelServerSettings | string | undefined {
  if (!runsOnServer(row)) return undefined;
  const wanted = row.server?.name;
  const [only] = modelServers;
  if (only === undefined)
    return `it runs on a model server, and none is set; start with --model-server URL or set model_servers`;
  const found =
    wanted === undefined && modelServers.length === 1
      ? only
      : modelServers.find(({ name }) => name === (wanted ?? DEFAULT_SERVER));
  if (found !== undefined) return found;
  const names = modelServers.map(({ name }) => name).join(', ');
  return `it runs on model server ${wanted ?? DEFAULT_SERVER}, and the settings have ${names}`;
}

async function openReranker(
  row: ModelRow,
  context: ModelContext,
  server: ModelServerSettings | undefined,
): Promise<GuardedReranker> {
  const { inputs, output } = bindingOf(row);
  const bound = {
    name: row.name,
    version: row.version,
    inputs: inputs ?? {},
    ...(output === undefined ? {} : { output }),
    dims: context.dims,
    isBackground: context.isBackground,
    users: context.users,
    items: context.items,
    vocabularies: vocabulariesOf(context),
    calibrations: await calibrationsOf(row, context),
    ...(row.rows_max === undefined ? {} : { rowsMax: row.rows_max }),
  };
  if (server !== undefined) {
    const address = { model: row.server?.model ?? row.name, version: row.server?.version };
    const check = (scorer: BoundScorer): Promise<void> => checkRecorded(row, scorer, context);
    return KserveReranker.open({ ...bound, server, address, check, onState: context.onRerankerState });
  }
  const scorerWorkers = context.scorerWorkers ?? context.workers;
  const reranker = await openOnnxReranker({
    ...bound,
    modelPath: placeOf(row.path, context),
    ...(row.sha256 === undefined ? {} : { sha256: row.sha256 }),
    ...(scorerWorkers === undefined ? {} : { workers: scorerWorkers }),
  });
  try {
    await checkRecorded(row, reranker, context);
  } catch (error) {
    await reranker.close();
    throw error;
  }
  return new GuardedReranker(reranker, { onState: context.onRerankerState });
}

/** Holds a scorer against the golden requests of its row, where there are some. Error: BELFRY_GOLDEN. */
async function checkRecorded(
  row: ModelRow,
  scorer: BoundScorer,
  { folder, users, itemIds, hasChangedItems = false }: ModelContext,
): Promise<void> {
  const golden = goldenPath(row.path);
  if (!(await exists(join(folder, golden)))) return;
  await checkGolden(join(folder, golden), golden, scorer, { users, itemIds: itemIds(), hasChangedItems });
}

/** Calibration files that the outputs of a row name. Error: BELFRY_CALIBRATION_INVALID. */
async function calibrationsOf(row: ModelRow, { folder }: ModelContext): Promise<Map<string, Calibration>> {
  const read = calibrationFiles(row.output).map(async (path): Promise<[string, Calibration]> => {
    const field = `registry.yaml: ${labelOf(row)}: output.calibration`;
    return [path, await readCalibration(insideFolder(folder, path, field), path)];
  });
  return new Map(await Promise.all(read));
}

/** The row that serves in a role: that in production, else one under test. */
export function inProduction<Row extends ModelRow>(rows: readonly Row[], role: ModelRow['role']): Row | undefined {
  const towers = rows.filter((row) => row.role === role && runsInProcess(row));
  return towers.find((row) => row.stage === 'production') ?? towers.find((row) => row.stage === 'ab-test');
}

const STAGE_ORDER = ['production', 'ab-test', 'shadow'];

function rerankerRows(rows: readonly ModelRow[]): ModelRow[] {
  return rows
    .filter((row) => row.role === 'reranker' && row.stage !== 'archived')
    .sort((a, b) => STAGE_ORDER.indexOf(a.stage) - STAGE_ORDER.indexOf(b.stage));
}

function bindingOf(row: ModelRow): { inputs?: InputBindings; output?: OutputBinding } {
  const checked = <T>(schema: TSchema, value: unknown, part: string): T => {
    if (Value.Check(schema, value)) return value as T;
    const { message } = explain([...Value.Errors(schema, value)] as SchemaError[], value);
    throw new BelfryError('BELFRY_REGISTRY_INVALID', `registry.yaml: ${labelOf(row)}: ${part}: ${message}`, {
      field: `${row.name}.${part}`,
    });
  };
  return {
    ...(row.inputs === undefined ? {} : { inputs: checked<InputBindings>(InputBindingSchema, row.inputs, 'inputs') }),
    ...(row.output === undefined ? {} : { output: checked<OutputBinding>(OutputBindingSchema, row.output, 'output') }),
  };
}

function vocabulariesOf(context: ModelContext): VocabularySources {
  return {
    file: (path) => vocabularyFile(context, path),
    ids: (side) => (side === 'items' ? context.itemIds() : context.userIds()),
  };
}

// Several inputs and models name the same file; the loader indexes a list once if it gets the same list.
const vocabularyLists = new WeakMap<ModelContext, Map<string, Promise<readonly string[]>>>();

function vocabularyFile(context: ModelContext, path: string): Promise<readonly string[]> {
  const lists = vocabularyLists.get(context) ?? new Map<string, Promise<readonly string[]>>();
  vocabularyLists.set(context, lists);
  const known =
    lists.get(path) ?? readVocabularyFile(insideFolder(context.folder, path, 'registry.yaml: vocabulary.file'), path);
  lists.set(path, known);
  return known;
}
