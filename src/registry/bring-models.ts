/**
 * Models of an MLflow registry as files of this machine:
 *
 *     <data>/registry/<name>/<version>/<file>       the model, and the files of its weights
 *                                     /version.json where it came from, and of each file size and SHA-256
 *
 * Aliases and stages are resolved once, at the beginning of a build; what was built keeps version and SHA-256. A version
 * that is here already is checked and not fetched again.
 */
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { dirname, join, posix } from 'node:path';
import {
  type BroughtModel,
  type BroughtModels,
  type MlflowReference,
  mlflowSettings,
  type MlflowSettings,
  referenceText,
} from '../config/mlflow.js';
import { mlflowReferences, slug } from '../config/registry.js';
import { BelfryError } from '../errors.js';
import {
  type FileFacts,
  exists,
  hashFile,
  makeFolder,
  remove,
  renameFile,
  syncFolder,
  writeDurable,
  WrittenFile,
} from '../generation/files.js';
import { withWriterLock } from '../generation/writer-lock.js';
import { externalTensors, readOnnx } from '../inference/onnx-graph.js';
import { type Artifacts, artifactsAt, plainPath } from './artifacts.js';
import { type ArtifactFile, invalidAnswer, MlflowClient } from './mlflow-client.js';

const RECORD = 'version.json';
const MODEL_FILE = /\.(onnx|pt|pth|plan|engine)$/;
/** Deeper folders than an MLflow flavour makes. */
const DEPTH_MAX = 4;
const FILE_BYTES_MAX = 64 * 2 ** 30;

interface VersionRecord {
  readonly source: string;
  readonly model: string;
  readonly files: Readonly<Record<string, FileFacts>>;
}

export interface BringOptions {
  readonly onProgress?: ((progress: { stage: string; done: number; total: number }) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * What the registry.yaml of a models folder wants of MLflow; undefined when it wants nothing. Errors: BELFRY_MLFLOW_*,
 * BELFRY_CONFIG_INVALID, BELFRY_REGISTRY_INVALID, BELFRY_LOCKED, those of files.ts.
 */
export async function bringModels(
  modelsFolder: string,
  data: string,
  settings: MlflowSettings,
  options: BringOptions = {},
): Promise<BroughtModels | undefined> {
  const references = mlflowReferences(modelsFolder);
  if (references.length === 0) return undefined;
  const client = new MlflowClient(needed(settings, references[0]!));
  const folder = join(data, 'registry');
  try {
    await makeFolder(folder, 'download');
    return await withWriterLock(folder, () => bringAll(client, folder, settings, references, options), {
      field: 'data',
      folder: `folder of models ${folder}`,
      busy: folder,
      cure: 'name another data folder with --data DIR',
    });
  } finally {
    await client.close();
  }
}

/** The versions that are meant now, as one text; for a look whether something moved. Errors: as bringModels. */
export async function versionsNow(modelsFolder: string, settings: MlflowSettings): Promise<string> {
  const references = mlflowReferences(modelsFolder);
  if (references.length === 0) return '';
  const client = new MlflowClient(needed(settings, references[0]!));
  try {
    const versions = await Promise.all(references.map((reference) => client.versionOf(reference)));
    return references.map((reference, at) => `${referenceText(reference)}=${versions[at]}`).join(' ');
  } finally {
    await client.close();
  }
}

function needed(settings: MlflowSettings, reference: MlflowReference): MlflowSettings & { mlflow_url: string } {
  const found = mlflowSettings(settings);
  if (found !== undefined) return found;
  const message = `registry.yaml takes ${referenceText(reference)} from MLflow; set mlflow_url to its address`;
  throw new BelfryError('BELFRY_CONFIG_INVALID', message, { field: 'mlflow_url' });
}

async function bringAll(
  client: MlflowClient,
  folder: string,
  settings: MlflowSettings,
  references: readonly MlflowReference[],
  { onProgress, signal }: BringOptions,
): Promise<BroughtModels> {
  const models: Record<string, BroughtModel> = {};
  for (const [done, reference] of references.entries()) {
    signal?.throwIfAborted();
    onProgress?.({ stage: 'models of MLflow', done, total: references.length });
    const what = referenceText(reference);
    const { name, alias, stage, file } = reference;
    const version = await client.versionOf(reference);
    const source = await client.artifactUri(name, version);
    const place = join(folder, slug(name), version);
    const record =
      (await recordOf(place, source, file)) ??
      (await fetchVersion(
        artifactsAt(source, what, client, settings.mlflow_file_root),
        place,
        source,
        what,
        file,
        signal,
      ));
    models[what] = {
      pin: { name, version, ...(alias === undefined ? {} : { alias }), ...(stage === undefined ? {} : { stage }) },
      path: `registry/${slug(name)}/${version}/${record.model}`,
      sha256: record.files[record.model]!.sha256,
    };
  }
  await removeOthers(folder, new Set(Object.values(models).map(({ path }) => dirname(path).slice('registry/'.length))));
  onProgress?.({ stage: 'models of MLflow', done: references.length, total: references.length });
  return { folder: dirname(folder), models };
}

/** What is on disk from before, if it is whole and of this source. */
async function recordOf(place: string, source: string, file: string | undefined): Promise<VersionRecord | undefined> {
  if (!(await exists(join(place, RECORD)))) return undefined;
  let record: VersionRecord;
  try {
    record = JSON.parse(await readFile(join(place, RECORD), 'utf8')) as VersionRecord;
  } catch {
    return undefined; // damaged: it is fetched again
  }
  if (record.source !== source || (file !== undefined && posix.basename(file) !== record.model)) return undefined;
  for (const [path, facts] of Object.entries(record.files ?? {})) {
    const full = join(place, path);
    if (!(await exists(full)) || (await hashFile(full)).sha256 !== facts.sha256) return undefined;
  }
  return record;
}

async function fetchVersion(
  artifacts: Artifacts,
  place: string,
  source: string,
  what: string,
  wanted: string | undefined,
  signal: AbortSignal | undefined,
): Promise<VersionRecord> {
  const found = await findModel(artifacts, what, wanted);
  const incoming = `${place}.incoming`;
  await remove(incoming, 'download');
  await makeFolder(incoming, 'download');
  const from = posix.dirname(found.path);
  const model = posix.basename(found.path);
  const files: Record<string, FileFacts> = {};
  const bring = async (file: string, bytes: number | undefined): Promise<void> => {
    files[file] = await save(await artifacts.read(posix.join(from, file)), join(incoming, file), bytes, what, signal);
  };
  await bring(model, found.bytes);
  if (model.endsWith('.onnx')) {
    const { graph } = readOnnx(await readFile(join(incoming, model)), what);
    const locations = externalTensors(graph).flatMap(({ external }) => (external === null ? [] : [external.location]));
    for (const location of new Set(locations)) await bring(plainPath(location, what), undefined);
  }
  const record: VersionRecord = { source, model, files };
  await writeDurable(join(incoming, RECORD), `${JSON.stringify(record, null, 2)}\n`, 'download');
  await syncFolder(incoming, 'download');
  await remove(place, 'download');
  await renameFile(incoming, place, 'download');
  await syncFolder(dirname(place), 'download');
  return record;
}

/** The file that is named, else the only model among the artifacts. */
async function findModel(artifacts: Artifacts, what: string, wanted: string | undefined): Promise<ArtifactFile> {
  const models: ArtifactFile[] = [];
  const walk = async (folder: string, depth: number): Promise<void> => {
    for (const file of await artifacts.list(folder)) {
      const path = posix.join(folder, plainPath(file.path, what));
      if (!file.isFolder && (wanted === undefined ? MODEL_FILE.test(path) : path === wanted))
        models.push({ ...file, path });
      else if (file.isFolder && depth < DEPTH_MAX) await walk(path, depth + 1);
    }
  };
  await walk('', 0);
  const [only] = models;
  if (only !== undefined && models.length === 1) return only;
  const names = models.map(({ path }) => path).join(', ');
  throw invalidAnswer(
    what,
    wanted !== undefined
      ? `it holds no file ${wanted}`
      : only === undefined
        ? 'it holds no .onnx, .pt or TensorRT file'
        : `it holds ${names}; say which with mlflow.file in registry.yaml`,
  );
}

async function save(
  body: AsyncIterable<Buffer>,
  path: string,
  expected: number | undefined,
  what: string,
  signal: AbortSignal | undefined,
): Promise<FileFacts> {
  const hash = createHash('sha256');
  let bytes = 0;
  await makeFolder(dirname(path), 'download');
  const file = await WrittenFile.open(path, 'w', 'download');
  try {
    for await (const chunk of body) {
      signal?.throwIfAborted();
      bytes += chunk.length;
      if (bytes > (expected ?? FILE_BYTES_MAX)) break;
      hash.update(chunk);
      await file.write(chunk);
    }
    await file.sync();
  } finally {
    await file.close();
  }
  if (expected !== undefined && bytes !== expected)
    throw invalidAnswer(
      what,
      `expected ${expected} bytes of ${posix.basename(path)}, received ${bytes > expected ? 'more' : bytes}`,
    );
  return { bytes, sha256: hash.digest('hex') };
}

/** Versions that no row names any more: generations have copies of their own. */
async function removeOthers(folder: string, kept: ReadonlySet<string>): Promise<void> {
  for (const name of await readdir(folder, { withFileTypes: true })) {
    if (!name.isDirectory()) continue;
    for (const version of await readdir(join(folder, name.name)))
      if (!kept.has(`${name.name}/${version}`)) await remove(join(folder, name.name, version), 'download');
  }
}
