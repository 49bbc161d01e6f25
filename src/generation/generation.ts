/** One generation in memory: everything that a request needs, from one export, never mixed with another's. */
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import type { GraphFile } from '../ann/addon-graph.js';
import { type KernelName, loadAddon, type NativeIndex, type NativeMatrix } from '../ann/addon.js';
import { IdMap } from '../ann/ids.js';
import { Searcher } from '../ann/searcher.js';
import { FeatureTable } from '../features/feature-table.js';
import type { ModelServerSettings } from '../config/model-servers.js';
import type { GuardedReranker, OnRerankerState } from '../rerank/guarded-reranker.js';
import type { UserTower } from '../tower/user-tower.js';
import type { Id, Metric, Row } from '../types.js';
import type { PublishedGeneration } from './data-folder.js';
import { type Lease, leaseGeneration } from './file-locks.js';
import type { ExclusionSets } from './exclusion-sets.js';
import { ItemFilters } from './item-filters.js';
import { exportedIds, loadIds } from './load-ids.js';
import { loadTable } from './load-table.js';
import type { Manifest, VectorSection } from './manifest.js';
import { type ModelContext, type OpenModels, openModels } from './models.js';
import { readExclusionSets } from './read-exclusions.js';
import { rowsPerCall } from '../ann/read-rows.js';

export interface LoadOptions {
  readonly threads?: number | undefined;
  readonly kernel?: KernelName | undefined;
  readonly modelWorkers?: number | undefined;
  /** Of each reranker; default as for other models. */
  readonly scorerWorkers?: number | undefined;
  readonly rerankModule?: string | undefined;
  readonly modelServers?: readonly ModelServerSettings[] | undefined;
  readonly onRerankerState?: OnRerankerState | undefined;
  /** As in GraphFile. */
  readonly graphLoad?: GraphFile['load'];
  /** Another generation serves meanwhile: one thread at low priority makes the index. */
  readonly isBackground?: boolean | undefined;
}

export class Generation {
  readonly id: string;
  /** Searches of the items, and the index behind it. */
  readonly searcher: Searcher;
  readonly skippedItems: ReadonlySet<Row>;
  readonly skippedUsers: ReadonlySet<Row>;
  private readonly closing: (() => unknown)[] = [];
  private similarity: { items?: Promise<Searcher>; users?: Promise<Searcher> } = {};

  private constructor(
    /** Where its files are; they never change. */
    readonly folder: string,
    readonly manifest: Manifest,
    readonly index: NativeIndex,
    readonly items: NativeMatrix,
    readonly users: NativeMatrix | undefined,
    readonly itemIds: IdMap,
    readonly userIds: IdMap | undefined,
    /** In item-row order. */
    readonly itemTable: FeatureTable,
    readonly filters: ItemFilters,
    readonly exclusions: ExclusionSets,
    /** In its own order: look up by id. */
    readonly userTable: FeatureTable,
    private readonly models: OpenModels,
    private readonly lease: Lease,
    private readonly options: LoadOptions,
    /** What an unknown user gets: the mean user, whose candidates are what most users share. */
    readonly defaultQuery: Float32Array,
  ) {
    this.id = manifest.id;
    this.searcher = new Searcher(index, manifest.graph?.calibration, manifest.search.recall);
    this.skippedItems = new Set(manifest.items.skippedRows);
    this.skippedUsers = new Set(manifest.users?.skippedRows ?? []);
  }

  /** Maps the vectors, packs the codes, loads tables and models. Errors: those of openModels and loadIds. */
  static async load(published: PublishedGeneration, options: LoadOptions = {}): Promise<Generation> {
    const { folder, manifest } = published;
    const opened: { close(): unknown }[] = [];
    try {
      const lease = await leaseGeneration(folder);
      opened.push({ close: () => lease.release() });
      const addon = loadAddon();
      const items = await addon.openMatrix(join(folder, manifest.items.file));
      opened.push(items);
      const users =
        manifest.users === undefined ? undefined : await addon.openMatrix(join(folder, manifest.users.file));
      if (users !== undefined) opened.push(users);
      const index = await createIndex(items, manifest.metric, options, graphOf(folder, manifest, options));
      opened.push(index);
      const itemIds = await idsOf(folder, manifest.items, options);
      const userIds = manifest.users === undefined ? undefined : await idsOf(folder, manifest.users, options);
      const itemTable = await openTable(folder, manifest.itemFeatures, itemIds, options);
      const filters = await ItemFilters.open(itemTable, (id) => itemIds.rowOf(id), options);
      opened.push(filters);
      const exclusions = await readExclusionSets(folder, manifest.exclusions ?? [], itemIds, userIds);
      const userTable = await openTable(folder, manifest.userFeatures, undefined, options);
      const models = await openModels({
        folder,
        rows: manifest.models,
        dims: manifest.items.dims,
        users: userTable,
        items: itemTable,
        itemIds: exportedIds(itemIds, manifest),
        userIds: () => userIds?.all() ?? userTable.ids,
        workers: options.modelWorkers,
        scorerWorkers: options.scorerWorkers,
        hasChangedItems: manifest.upserts !== undefined,
        rerankModule: options.rerankModule,
        modelServers: options.modelServers,
        onRerankerState: options.onRerankerState,
        isBackground: options.isBackground,
      });
      opened.push({ close: () => closeModels(models) });
      const defaultQuery =
        users === undefined || users.rows === 0
          ? await meanVector(items, manifest.items.skippedRows)
          : await meanVector(users, manifest.users!.skippedRows);
      return new Generation(
        folder,
        manifest,
        index,
        items,
        users,
        itemIds,
        userIds,
        itemTable,
        filters,
        exclusions,
        userTable,
        models,
        lease,
        options,
        defaultQuery,
      );
    } catch (error) {
      for (const one of opened.reverse()) await one.close();
      throw error;
    }
  }

  get tower(): UserTower | undefined {
    return this.models.tower;
  }

  get towerProblem(): string | undefined {
    return this.models.towerProblem;
  }

  get rerankers(): readonly GuardedReranker[] {
    return this.models.rerankers;
  }

  get rerankerProblems(): readonly string[] {
    return this.models.rerankerProblems;
  }

  /** Items like an item: by direction under ip (else long items are like everything), by the metric itself otherwise. */
  itemSimilarity(): Promise<Searcher> {
    if (this.manifest.metric !== 'ip') return Promise.resolve(this.searcher);
    this.similarity.items ??= createSearcher(this.items, 'cosine', this.options);
    return this.similarity.items;
  }

  /** Users like a user; made at the first call, since many services never ask. */
  userSimilarity(): Promise<Searcher> {
    if (this.users === undefined) throw new Error('no users: the caller checks');
    const metric: Metric = this.manifest.metric === 'ip' ? 'cosine' : this.manifest.metric;
    this.similarity.users ??= createSearcher(this.users, metric, this.options);
    return this.similarity.users;
  }

  /** Users to begin with: those that the export names, else some spread over the rows. */
  exampleUsers(count: number): Id[] {
    const { userIds } = this;
    if (userIds === undefined || userIds.size === 0) return [];
    const named = this.manifest.exampleUsers.filter((id) => userIds.rowOf(id) !== undefined);
    const spread = Array.from({ length: count }, (_, i) =>
      userIds.idOf(Math.floor(((i + 0.5) * userIds.size) / count)),
    );
    return [...new Set([...named, ...spread])].slice(0, count);
  }

  /** What opening another model of this generation takes. */
  get modelContext(): ModelContext {
    const { folder, manifest, items, userTable, itemTable, itemIds, userIds } = this;
    return {
      folder,
      rows: manifest.models,
      dims: items.dims,
      users: userTable,
      items: itemTable,
      itemIds: exportedIds(itemIds, manifest),
      userIds: () => userIds?.all() ?? userTable.ids,
    };
  }

  /** What others keep beside this generation, they give up with it. */
  whenClosed(action: () => unknown): void {
    this.closing.push(action);
  }

  /** The store calls this when the last request on it is done. */
  async close(): Promise<void> {
    for (const action of this.closing) await action();
    await closeModels(this.models);
    for (const opening of [this.similarity.items, this.similarity.users]) {
      (await opening?.catch(() => undefined))?.index.close();
    }
    this.filters.close();
    this.index.close();
    this.items.close();
    this.users?.close();
    await this.lease.release();
  }
}

async function closeModels({ tower, rerankers }: OpenModels): Promise<void> {
  await Promise.all([tower?.close(), ...rerankers.map((reranker) => reranker.close())]);
}

function graphOf(
  folder: string,
  { graph, items, files }: Manifest,
  { graphLoad = 'huge' }: LoadOptions,
): GraphFile | undefined {
  if (graph === undefined) return undefined;
  return { path: join(folder, graph.file), vectors: files[items.file]!.sha256, load: graphLoad };
}

async function createSearcher(matrix: NativeMatrix, metric: Metric, options: LoadOptions): Promise<Searcher> {
  return new Searcher(await createIndex(matrix, metric, options));
}

function createIndex(
  matrix: NativeMatrix,
  metric: Metric,
  { kernel, threads, isBackground }: LoadOptions,
  graph?: GraphFile,
): Promise<NativeIndex> {
  return loadAddon().createIndex({
    matrix,
    metric,
    ...(kernel === undefined ? {} : { kernel }),
    ...(threads === undefined ? {} : { threads }),
    ...(graph === undefined ? {} : { graph }),
    background: isBackground === true,
  });
}

function idsOf(folder: string, section: VectorSection, options: LoadOptions): Promise<IdMap> {
  return loadIds(folder, section.idsFile, section.count, section.file, options);
}

function openTable(
  folder: string,
  file: string | undefined,
  alignTo: IdMap | undefined,
  options: LoadOptions,
): Promise<FeatureTable> {
  if (file !== undefined) return loadTable(join(folder, file), file, alignTo, options);
  return Promise.resolve(FeatureTable.of(alignTo ?? IdMap.ofRows(0), [], { name: 'no table' }));
}

/** Values added up between two turns of the event loop. */
const MEAN_STEP = 65_536;

/** Of as many rows, spread over the matrix, as one call may read. */
async function meanVector(matrix: NativeMatrix, skipped: readonly Row[]): Promise<Float32Array> {
  const { dims } = matrix;
  const left = new Set(skipped);
  const count = Math.min(matrix.rows, rowsPerCall(dims));
  const rows = Uint32Array.from({ length: count }, (_, i) => Math.floor((i * matrix.rows) / count)).filter(
    (row) => !left.has(row),
  );
  const step = Math.max(1, Math.floor(MEAN_STEP / dims));
  const mean = new Float64Array(dims);
  for (let start = 0; start < rows.length; start += step) {
    const values = matrix.readRows(rows.subarray(start, start + step));
    for (let i = 0; i < values.length; i++) mean[i % dims]! += values[i]!;
    await setImmediate();
  }
  return Float32Array.from(mean, (sum) => sum / Math.max(1, rows.length));
}
