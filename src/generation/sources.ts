/** Which files an export consists of, and whether a generation was made from just these. */
import { stat } from 'node:fs/promises';
import { join, posix } from 'node:path';
import { fileOf, insideFolder, tableFiles, type ModelRow, type ModelsFolder } from '../config/models-folder.js';
import { BelfryError } from '../errors.js';
import { loadOnnx } from '../inference/onnx-file.js';
import { externalTensors } from '../inference/onnx-graph.js';
import { goldenPath } from '../rerank/golden.js';
import { calibrationFiles } from '../rerank/score-output.js';
import { exists, hashFile } from './files.js';
import type { SourceFile } from './manifest.js';

/** Read for what they say, not copied: their content ends in the manifest. */
const DESCRIPTIONS = ['registry.yaml', 'registry.yml', 'embeddings/export.json', 'canaries.json'];

/** Everything but vectors that a generation must hold to serve without the models folder; relative paths. */
export async function filesToCopy(folder: ModelsFolder): Promise<string[]> {
  const files = new Set<string>();
  for (const file of [folder.itemIds, folder.userIds, folder.items]) if (file !== undefined) files.add(file);
  if (folder.users !== undefined) for (const file of tableFiles(folder.path, folder.users)) files.add(file);
  for (const { path } of folder.exclusions) files.add(path);
  for (const row of folder.models) {
    for (const file of [...vocabularyFiles(row.inputs), ...calibrationFiles(row.output)]) files.add(file);
    const golden = goldenPath(row.path);
    if (row.role === 'reranker' && (await exists(join(folder.path, golden)))) files.add(golden);
    if (!runsInProcess(row)) continue;
    files.add(row.path);
    for (const file of await externalFiles(folder, row)) files.add(file);
  }
  for (const file of files) if (fileOf(folder, file) === join(folder.path, file)) insideFolder(folder.path, file, file);
  return [...files];
}

/** Files that describe the export and are there. */
async function descriptionFiles(modelsFolder: string): Promise<string[]> {
  const found: string[] = [];
  for (const file of DESCRIPTIONS) if (await exists(join(modelsFolder, file))) found.push(file);
  return found;
}

export function runsInProcess(row: Pick<ModelRow, 'format' | 'stage' | 'server'>): boolean {
  return row.format === 'onnx' && row.server === undefined && row.stage !== 'archived';
}

/** Rerankers of other formats, and those whose row says `server:`. */
export function runsOnServer(row: Pick<ModelRow, 'format' | 'stage' | 'server' | 'role'>): boolean {
  return row.role === 'reranker' && row.stage !== 'archived' && !runsInProcess(row);
}

/** The description files of a models folder as they are now. */
export async function describeSources(modelsFolder: string): Promise<SourceFile[]> {
  const described: SourceFile[] = [];
  for (const path of await descriptionFiles(modelsFolder)) {
    const full = join(modelsFolder, path);
    described.push({ path, mtimeMs: (await stat(full)).mtimeMs, ...(await hashFile(full)) });
  }
  return described;
}

/** Files whose SHA-256 export.json lists are those very files. Error: BELFRY_EXPORT_INVALID. */
export function assertListed(listed: Readonly<Record<string, string>>, sources: readonly SourceFile[]): void {
  for (const { path, sha256 } of sources) {
    const expected = listed[path];
    if (expected === undefined || expected === sha256) continue;
    throw new BelfryError(
      'BELFRY_EXPORT_INVALID',
      `${path}: export.json lists SHA-256 ${expected}, the file has ${sha256}; the two are not of one export, write it again`,
      { field: `files.${path}` },
    );
  }
}

/** Cheap first: the size and time of each source; only a file that was touched is hashed. */
export async function areSources(folder: ModelsFolder, sources: readonly SourceFile[]): Promise<boolean> {
  const vectors = [folder.itemEmbeddings, ...(folder.userEmbeddings === undefined ? [] : [folder.userEmbeddings])];
  const expected = new Set([...vectors, ...(await filesToCopy(folder)), ...(await descriptionFiles(folder.path))]);
  if (sources.length !== expected.size) return false;
  for (const source of sources) {
    if (!expected.has(source.path)) return false;
    const full = fileOf(folder, source.path);
    const found = await stat(full);
    if (found.size !== source.bytes) return false;
    if (found.mtimeMs !== source.mtimeMs && (await hashFile(full)).sha256 !== source.sha256) return false;
  }
  return true;
}

/** `vocabulary: { file }` anywhere in the binding of a model. */
function vocabularyFiles(binding: unknown): string[] {
  if (typeof binding !== 'object' || binding === null) return [];
  return Object.entries(binding).flatMap(([key, value]) => {
    const file = (value as { file?: unknown } | null)?.file;
    return key === 'vocabulary' && typeof file === 'string' ? [file] : vocabularyFiles(value);
  });
}

async function externalFiles(folder: ModelsFolder, row: ModelRow): Promise<string[]> {
  const { model } = await loadOnnx(fileOf(folder, row.path), `${row.name}@${row.version}`, row.sha256);
  const locations = externalTensors(model.graph).flatMap((tensor) =>
    tensor.external === null ? [] : [tensor.external.location],
  );
  return [...new Set(locations)].map((location) => posix.join(posix.dirname(row.path), location));
}
