/**
 * A generation from a models folder: import and check vectors, check ids, copy feature tables and models, run the
 * checks, write the manifest, verify by re-reading, publish. Whatever fails leaves what serves untouched.
 */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { BroughtModels } from '../config/mlflow.js';
import { fileOf, type ModelsFolder, readModelsFolder } from '../config/models-folder.js';
import { asBelfryError, BelfryError } from '../errors.js';
import type { Metric } from '../types.js';
import { VERSION } from '../version.js';
import { graphOfGeneration } from './build-graph.js';
import { assertFits, type BuildPlan, planBuild } from './build-plan.js';
import { DataFolder, type OnBadGeneration, type PublishedGeneration } from './data-folder.js';
import type { ExclusionFacts } from './exclusion-sets.js';
import { copyDurable, type FileFacts, hashFile, makeFolder, remove } from './files.js';
import { type Draft, type GateOptions, Gates } from './gates/run-gates.js';
import { type ImportedVectors, importVectors } from './import-vectors.js';
import { loadIds } from './load-ids.js';
import {
  type ExclusionEntry,
  MANIFEST_VERSION,
  type Manifest,
  type ModelEntry,
  type SourceFile,
  type VectorSection,
  readManifest,
  writeManifest,
} from './manifest.js';
import { verifyFiles } from './verify.js';
import { normProfile } from './norms.js';
import { inProduction } from './models.js';
import { writeReport } from './report/make-report.js';
import { readExclusionSets } from './read-exclusions.js';
import type { UpsertSource } from './upsert-source.js';
import { areSources, assertListed, describeSources, filesToCopy, runsInProcess } from './sources.js';

export interface BuildProgress {
  readonly stage: string;
  readonly done: number;
  readonly total: number;
}

export interface BuildOptions extends GateOptions {
  readonly models: string;
  /** Where the models folder was copied from, when it is a copy: what the manifest names. */
  readonly source?: string;
  readonly data: string;
  /** Models that the registry takes from MLflow, as registry/bring-models.ts fetched them. */
  readonly brought?: BroughtModels | undefined;
  /** Default: export.json's, else ip. */
  readonly metric?: Metric | undefined;
  readonly onBadVector?: 'reject' | 'skip';
  /** Native threads; default one per CPU. */
  readonly threads?: number | undefined;
  readonly onProgress?: (progress: BuildProgress) => void;
  readonly onPlan?: (plan: BuildPlan) => void;
  /** A generation that failed its checksums and was passed over. */
  readonly onBadGeneration?: OnBadGeneration;
  /** Published all the same, but old generations could not be removed. */
  readonly onWarning?: (error: BelfryError) => void;
  /** Takes over what was put and deleted since the last build; without it the log goes on beside the new generation. */
  readonly upserts?: UpsertSource | undefined;
  readonly signal?: AbortSignal;
}

export interface BuildResult {
  readonly published: PublishedGeneration;
  /** True when the newest generation was made from this very export. */
  readonly reused: boolean;
}

/** The current generation if it was made from this export with these options, else a new one. */
export async function ensureGeneration(options: BuildOptions): Promise<BuildResult> {
  const data = await DataFolder.open(options.data);
  const current = await data.current(options.onBadGeneration ?? (() => undefined));
  if (current !== undefined && (await isKnown(data, current, options))) {
    await data.cleanUp();
    return { published: current, reused: true };
  }
  return { published: await buildGeneration(options), reused: false };
}

/** The export of now serves; or it served until a rollback took it back, and only a forced build brings it again. */
async function isKnown(data: DataFolder, current: PublishedGeneration, options: BuildOptions): Promise<boolean> {
  if (await isUpToDate(current.manifest, options)) return true;
  const { previous } = await data.pointer();
  if (previous === undefined) return false;
  const later = await readManifest(data.folderOf(previous)).catch(() => undefined); // it is the next build's to say why
  return later !== undefined && later.created > current.manifest.created && isUpToDate(later, options);
}

/** Builds and publishes. Errors: every code of the section "models folder and builds" in errors.ts. */
export async function buildGeneration(options: BuildOptions): Promise<PublishedGeneration> {
  const data = await DataFolder.open(options.data);
  return data.withWriterLock(async () => {
    const id = await data.newId();
    const temporary = data.newTemporary(id);
    try {
      const manifest = await writeGeneration(options, id, temporary, await generationBefore(data));
      options.onProgress?.({ stage: 'publish', done: 0, total: 1 });
      const uncollected = await data.publish(temporary, id);
      if (uncollected !== undefined) options.onWarning?.(uncollected);
      await options.upserts?.published().catch((error: unknown) => options.onWarning?.(asBelfryError(error)));
      options.onProgress?.({ stage: 'publish', done: 1, total: 1 });
      return { id, folder: data.folderOf(id), manifest };
    } catch (error) {
      // When even this fails, the next build or start removes it; the first error is the one to report.
      await remove(temporary, 'discard').catch(() => undefined);
      throw explainWriteError(error, options.data);
    }
  });
}

async function writeGeneration(
  options: BuildOptions,
  id: string,
  into: string,
  previous: PublishedGeneration | undefined,
): Promise<Manifest> {
  const started = performance.now();
  const gates = new Gates(options.models, into, previous, options);
  // Before they are read: what changes from here on makes the next look at this export build again.
  const descriptions = await describeSources(options.models);
  const folder = readModelsFolder(options.models, options.brought);
  const metric = options.metric ?? folder.exportDescription.metric ?? 'ip';
  const plan = await planBuild(folder, options.data);
  options.onPlan?.(plan);
  assertFits(plan, options.data);
  await makeFolder(join(into, 'embeddings'), 'vectors');

  const importOne = (file: string, stage: string): Promise<ImportedVectors> =>
    importVectors({
      modelsFolder: folder.path,
      file,
      into,
      metric,
      onBadVector: options.onBadVector ?? 'reject',
      onProgress: (done, total) => options.onProgress?.({ stage, done, total }),
      signal: options.signal,
    });
  const exported = await importOne(folder.itemEmbeddings, 'item embeddings');
  const users =
    folder.userEmbeddings === undefined ? undefined : await importOne(folder.userEmbeddings, 'user embeddings');
  checkDims(folder, exported, users);

  const sources: SourceFile[] = [exported.source, ...(users === undefined ? [] : [users.source])];
  const files: Record<string, FileFacts> = {};
  for (const section of [exported.section, users?.section]) {
    if (section !== undefined) files[section.file] = await hashFile(join(into, section.file));
  }
  const copies = await filesToCopy(folder);
  for (const [position, file] of copies.entries()) {
    options.signal?.throwIfAborted();
    options.onProgress?.({ stage: 'ids, features, models', done: position, total: copies.length });
    const { mtimeMs } = await stat(fileOf(folder, file)); // before the copy, for the same reason
    const facts = await copyDurable(fileOf(folder, file), join(into, file), 'copy');
    files[file] = facts;
    sources.push({ path: file, mtimeMs, ...facts });
  }
  options.onProgress?.({ stage: 'ids, features, models', done: copies.length, total: copies.length });
  sources.push(...descriptions);
  assertListed(folder.exportDescription.files ?? {}, sources);

  const models = await modelEntries(folder, files);
  const exportedIds = await loadIds(into, folder.itemIds, exported.section.count, folder.itemEmbeddings);
  if (options.upserts === undefined && previous?.manifest.upserts !== undefined)
    throw new Error('the data folder holds upserts: it is built by upserts/build.ts');
  const folded = await options.upserts?.foldInto({
    into,
    folder,
    metric,
    models,
    source: exported.source,
    section: exported.section,
    itemIds: exportedIds,
    itemIdsFile: folder.itemIds,
    previous,
    signal: options.signal,
  });
  Object.assign(files, folded?.files);
  const items = { ...exported, section: folded?.section ?? exported.section };
  const itemIdsFile = folded === undefined ? folder.itemIds : folded.itemIdsFile;
  const itemIds =
    folded === undefined ? exportedIds : await loadIds(into, itemIdsFile, items.section.count, folder.itemEmbeddings);
  const userIds =
    users === undefined
      ? undefined
      : await loadIds(into, folder.userIds, users.section.count, folder.userEmbeddings as string);
  const exclusions = await readExclusionSets(into, folder.exclusions, itemIds, userIds);
  const { model, version, normalised, created, checkpoint } = folder.exportDescription;
  const draft: Draft = {
    version: MANIFEST_VERSION,
    id,
    created: new Date().toISOString(),
    builder: { belfry: VERSION, node: process.versions.node, platform: `${process.platform}-${process.arch}` },
    models_folder: options.source ?? folder.path,
    export: stated({ model, version, normalised, created, checkpoint }),
    metric,
    items: await section(into, items, itemIdsFile, itemIds.kind),
    ...(users === undefined || userIds === undefined
      ? {}
      : { users: await section(into, users, folder.userIds, userIds.kind) }),
    ...(folder.items === undefined ? {} : { itemFeatures: folder.items }),
    ...(folder.users === undefined ? {} : { userFeatures: folder.users }),
    ...(exclusions.facts.length === 0 ? {} : { exclusions: exclusions.facts.map(entryOf) }),
    ...(folded === undefined ? {} : { upserts: folded.upserts }),
    models,
    sources,
    files,
    exampleUsers: folder.exportDescription.example_users ?? [],
    ...(previous === undefined ? {} : { previous: previous.id }),
  };
  options.onProgress?.({ stage: 'check models', done: 0, total: 1 });
  const { tower, featureSchema } = await gates.beforeIndex(draft);
  options.onProgress?.({ stage: 'check models', done: 1, total: 1 });
  const graph = await graphOfGeneration({
    into,
    items: draft.items,
    users: draft.users,
    metric,
    vectors: files[items.section.file]!.sha256,
    threads: options.threads,
    onProgress: (stage, done, total) => options.onProgress?.({ stage, done, total }),
    signal: options.signal,
  });
  if (graph !== undefined) files[graph.file] = await hashFile(join(into, graph.file));
  const indexed: Draft = { ...draft, ...(graph === undefined ? {} : { graph }) };
  options.onProgress?.({ stage: 'check answers', done: 0, total: 1 });
  const { search, canaries, facts } = await gates.withIndex(indexed, tower, options.threads);
  files[canaries.file] = facts;
  options.onProgress?.({ stage: 'check answers', done: 1, total: 1 });

  const described = {
    ...indexed,
    search,
    canaries,
    pins: pinsOf(indexed, items.source, users?.source, featureSchema),
    gates: gates.results,
    overrides: options.overrides ?? [],
    buildMs: Math.round(performance.now() - started),
  };
  const complete: Manifest = { ...described, report: await writeReport(into, described, previous) };
  await writeManifest(into, complete);
  await verifyFiles(into, complete);
  return complete;
}

/** What the new one is held against; one that this Belfry cannot read is no measure. */
async function generationBefore(data: DataFolder): Promise<PublishedGeneration | undefined> {
  const id = await data.pointed();
  if (id === undefined) return undefined;
  const folder = data.folderOf(id);
  try {
    return { id, folder, manifest: await readManifest(folder) };
  } catch (error) {
    if (error instanceof BelfryError) return undefined;
    throw error;
  }
}

/** Without what is undefined, which JSON cannot hold. */
function stated<T extends object>(values: T): { [Key in keyof T]?: Exclude<T[Key], undefined> } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as never;
}

function pinsOf(
  { models }: Draft,
  items: SourceFile,
  users: SourceFile | undefined,
  featureSchema: string,
): Manifest['pins'] {
  const pin = ({ name, version, sha256 }: ModelEntry) => ({ name, version, sha256 });
  const tower = inProduction(models, 'user_tower');
  return {
    itemExport: items.sha256,
    ...(users === undefined ? {} : { userExport: users.sha256 }),
    ...(tower === undefined ? {} : { tower: pin(tower) }),
    scorers: models.filter(({ role, stage }) => role === 'reranker' && stage !== 'archived').map(pin),
    featureSchema,
  };
}

function entryOf({ file, bytes: _, ...facts }: ExclusionFacts): ExclusionEntry {
  return { ...facts, path: file };
}

async function section(
  into: string,
  { section: facts }: ImportedVectors,
  idsFile: string | undefined,
  idKind: VectorSection['idKind'],
): Promise<VectorSection> {
  const norms = await normProfile(join(into, facts.file), facts.norms, facts.skippedRows);
  return { ...facts, norms, idKind, ...(idsFile === undefined ? {} : { idsFile }) };
}

function checkDims(folder: ModelsFolder, items: ImportedVectors, users: ImportedVectors | undefined): void {
  const declared = folder.exportDescription.dims;
  if (declared !== undefined && declared !== items.section.dims) {
    throw new BelfryError(
      'BELFRY_EXPORT_INVALID',
      `export.json: dims: expected ${items.section.dims} (as in item_embeddings.npy), received ${declared}`,
      {
        field: 'dims',
      },
    );
  }
  if (users !== undefined && users.section.dims !== items.section.dims) {
    throw new BelfryError(
      'BELFRY_DIMS_MISMATCH',
      `user_embeddings.npy has ${users.section.dims} dims and item_embeddings.npy ${items.section.dims}; export both from the same training`,
      { field: 'embeddings/user_embeddings.npy', limit: items.section.dims },
    );
  }
}

async function modelEntries(folder: ModelsFolder, files: Readonly<Record<string, FileFacts>>): Promise<ModelEntry[]> {
  const entries: ModelEntry[] = [];
  for (const row of folder.models) {
    const facts = files[row.path] ?? (await hashFile(fileOf(folder, row.path)));
    const { sha256, ...rest } = row;
    if (sha256 !== undefined && sha256 !== facts.sha256) {
      throw new BelfryError(
        'BELFRY_MODEL_INVALID',
        `${row.path}: registry.yaml pins sha256 ${sha256}, the file has ${facts.sha256}; export again, or correct the registry`,
        { field: row.path },
      );
    }
    entries.push({ ...rest, ...facts, ...(runsInProcess(row) ? { file: row.path } : {}) });
  }
  return entries;
}

/** Whether a generation was made from the export of now with these options. Errors: those of readModelsFolder. */
export async function isUpToDate(manifest: Manifest, options: BuildOptions): Promise<boolean> {
  const folder = readModelsFolder(options.models, options.brought);
  const metric = options.metric ?? folder.exportDescription.metric ?? 'ip';
  if (manifest.metric !== metric || manifest.builder.belfry !== VERSION) return false;
  const deleted = manifest.upserts?.deleted ?? 0;
  const leftOut = manifest.items.skippedRows.length - deleted + (manifest.users?.skippedRows.length ?? 0);
  if (leftOut > 0 && options.onBadVector !== 'skip') return false;
  return areSources(folder, manifest.sources);
}

function explainWriteError(error: unknown, data: string): unknown {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    return new BelfryError(
      'BELFRY_DISK_SPACE',
      `${data}: the disk is full (${code}); nothing was published, free some space and build again`,
      {
        field: 'data',
        cause: error,
      },
    );
  }
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') {
    return new BelfryError('BELFRY_FILE_UNREADABLE', `the build cannot go on: ${(error as Error).message}`, {
      cause: error,
    });
  }
  return error;
}
