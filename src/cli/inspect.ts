/** `belfry inspect`: what a .npy, an .onnx, a .parquet, a generation or a models folder holds. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Command } from 'commander';
import { loadAddon, type NpyInfo } from '../ann/addon.js';
import { readModelsFolder } from '../config/models-folder.js';
import { BelfryError, invalid } from '../errors.js';
import { FeatureTable } from '../features/feature-table.js';
import { DataFolder } from '../generation/data-folder.js';
import { readManifest } from '../generation/manifest.js';
import { verifyFiles } from '../generation/verify.js';
import { loadOnnx } from '../inference/onnx-file.js';
import { summarize } from '../inference/onnx-graph.js';
import { readReport } from '../generation/report/make-report.js';
import { buildReport } from './build.js';
import { gateTable, reportText } from './report-text.js';
import { formatBytes, print, printJson, table } from './terminal.js';

/** What is printed: an object for scripts, and text for people. */
interface Finding {
  readonly data: unknown;
  readonly text: string;
}

export function addInspect(program: Command): void {
  program
    .command('inspect')
    .description('what a .npy, .onnx or .parquet file, a generation, a data folder or a models folder holds')
    .argument('<path>', 'file or folder')
    .option('--report', 'of a generation, or of the one that a data folder serves: what its build made and measured')
    .option('--json', 'as JSON')
    .action(async (path: string, flags: { json?: boolean; report?: boolean }) => {
      const { data, text } = await (flags.report ? inspectReport(path) : inspect(path));
      if (flags.json) printJson(data);
      else print(text);
    });
}

async function inspect(path: string): Promise<Finding> {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) throw new BelfryError('BELFRY_FILE_UNREADABLE', `${path} does not exist`, { field: 'path' });
  if (found.isDirectory()) return inspectFolder(path);
  if (path.endsWith('.npy')) return inspectNpy(await loadAddon().npyInfo(path));
  if (path.endsWith('.onnx')) return inspectOnnx(path);
  if (path.endsWith('.parquet')) return inspectParquet(path);
  throw invalid(
    'path',
    'a .npy, .onnx or .parquet file, a generation, a data folder or a models folder',
    basename(path),
  );
}

function inspectNpy(info: NpyInfo): Finding {
  const rows = [
    ['shape', info.shape.join(' x ') || 'scalar'],
    ['dtype', `${info.dtype}${info.bigEndian ? ', big endian' : ''}`],
    ['order', info.fortranOrder ? 'Fortran (columns first)' : 'C (rows first)'],
    ['npy version', `${info.version}.0`],
    ['data at byte', info.dataOffset],
    ['size', formatBytes(info.fileBytes)],
  ] as const;
  return { data: info, text: pairs(rows) };
}

async function inspectOnnx(path: string): Promise<Finding> {
  const { model, sha256, bytes } = await loadOnnx(path, basename(path));
  const summary = summarize(model);
  const shape = (dims: readonly (number | null)[] | null) =>
    dims === null ? 'any shape' : `[${dims.map((one) => one ?? 'N').join(', ')}]`;
  const tensors = [
    ['tensor', 'name', 'dtype', 'shape'],
    ...summary.inputs.map((one) => ['input', one.name, one.dtype, shape(one.shape)]),
    ...summary.outputs.map((one) => ['output', one.name, one.dtype, shape(one.shape)]),
  ];
  const rows = [
    [
      'producer',
      `${summary.producer} (IR ${summary.irVersion}, opset ${summary.opsets.map((one) => `${one.domain || 'ai.onnx'} ${one.version}`).join(', ')})`,
    ],
    ['size', formatBytes(bytes.length)],
    ['sha256', sha256],
    ['parameters', `${summary.parameters} (${formatBytes(summary.parameterBytes)})`],
    [
      'operators',
      Object.entries(summary.ops)
        .map(([op, count]) => `${op} ${count}`)
        .join(', '),
    ],
    ['other files', summary.externalFiles.join(', ') || 'none'],
  ] as const;
  return { data: { ...summary, sha256, bytes: bytes.length }, text: `${table(tensors)}\n\n${pairs(rows)}` };
}

async function inspectParquet(path: string): Promise<Finding> {
  const features = await FeatureTable.open(path);
  const rows = [
    ['column', 'kind', 'first value'],
    ...features.columns.map(({ name, kind }) => [name, kind, sampleOf(features, name)]),
  ];
  const data = { rows: features.rows, columns: features.columns, ignored: features.ignored };
  const ignored = features.ignored.length > 0 ? `\nleft out: ${JSON.stringify(features.ignored)}` : '';
  return {
    data,
    text: `${features.rows} rows, id of the first: ${features.ids[0] ?? 'none'}\n\n${table(rows)}${ignored}`,
  };
}

function sampleOf(features: FeatureTable, column: string): string {
  for (let row = 0; row < Math.min(features.rows, 1000); row++) {
    const value = features.valueAt(row, column);
    if (value === null || (Array.isArray(value) && value.length === 0)) continue;
    const text = JSON.stringify(value);
    return text.length > 60 ? `${text.slice(0, 57)}...` : text;
  }
  return '';
}

async function inspectFolder(path: string): Promise<Finding> {
  const names = readdirSync(path);
  if (names.includes('manifest.json')) {
    const manifest = await readManifest(path);
    await verifyFiles(path, manifest);
    return {
      data: manifest,
      text: `${buildReport(manifest, path, false)}\n\n${gateTable(manifest.gates)}\n\nevery file fits its checksum`,
    };
  }
  if (names.some((name) => name.startsWith('gen-'))) return inspectData(path);
  return inspectModels(path);
}

/** Errors: BELFRY_REPORT_MISSING, BELFRY_INVALID_ARGUMENT. */
async function inspectReport(path: string): Promise<Finding> {
  let folder = path;
  if (!existsSync(join(path, 'manifest.json'))) {
    const id = existsSync(join(path, 'CURRENT')) ? await (await DataFolder.open(path)).pointed() : undefined;
    if (id === undefined) throw invalid('path', 'a generation, or a data folder that has one', path);
    folder = join(path, `gen-${id}`);
  }
  const report = await readReport(folder, await readManifest(folder));
  const facts = pairs([
    ['generation', report.generation],
    ['built', `${report.created} in ${report.build_seconds.toFixed(2)} s`],
    ['size', `${report.items} items, ${report.users} users, ${report.dims} dims, ${formatBytes(report.bytes)}`],
  ]);
  return { data: report, text: `${facts}\n\n${reportText(report)}` };
}

async function inspectData(path: string): Promise<Finding> {
  const data = await DataFolder.open(path);
  const bad: Record<string, string> = {};
  const current = await data.current((id, error) => {
    bad[id] = error.message;
  });
  const ids = await data.ids();
  const state = (id: string) => (id === current?.id ? 'serves' : (bad[id] ?? 'kept'));
  return {
    data: { current: current?.id ?? null, generations: ids.map((id) => ({ id, state: state(id) })) },
    text: table([['generation', 'state'], ...ids.map((id) => [id, state(id)])]),
  };
}

function inspectModels(path: string): Finding {
  const folder = readModelsFolder(path, 'left out');
  const rows = [
    ['item embeddings', folder.itemEmbeddings],
    ['user embeddings', folder.userEmbeddings ?? 'none'],
    ['item ids', folder.itemIds ?? 'row numbers'],
    ['user ids', folder.userIds ?? 'row numbers'],
    ['features', [folder.users, folder.items].filter(Boolean).join(', ') || 'none'],
    ['exclusion sets', folder.exclusions.map(({ name }) => name).join(', ') || 'none'],
    ['export', JSON.stringify(folder.exportDescription)],
    ['user tower', folder.userTower === undefined ? 'none' : `${folder.userTower.name}@${folder.userTower.version}`],
  ] as const;
  const models = folder.models.map((one) => [
    one.model,
    one.version,
    one.format,
    one.stage,
    one.role,
    one.path,
    formatBytes(statSync(join(path, one.path)).size),
  ]);
  return {
    data: folder,
    text: `${pairs(rows)}\n\n${table([['model', 'version', 'format', 'stage', 'role', 'path', 'size'], ...models])}`,
  };
}

function pairs(rows: readonly (readonly [string, string | number])[]): string {
  const width = Math.max(...rows.map(([key]) => key.length));
  return rows.map(([key, value]) => `${key.padEnd(width)}  ${value}`).join('\n');
}
