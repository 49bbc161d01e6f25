/** How a generation that is being built differs from the one before it. Numbers for people; the gates judge on their own. */
import { join } from 'node:path';
import { loadAddon, type NativeMatrix } from '../../ann/addon.js';
import { spread } from '../../ann/build-graph.js';
import type { IdMap } from '../../ann/ids.js';
import { readRows } from '../../ann/read-rows.js';
import { cosine } from '../../ann/vectors.js';
import type { PublishedGeneration } from '../data-folder.js';
import { recallBefore } from '../gates/recall.js';
import type { GateVectors } from '../gates/subject.js';
import { loadIds } from '../load-ids.js';
import type { Manifest, VectorSection } from '../manifest.js';
import { verifySizes } from '../verify.js';
import type { Diff } from './report-schema.js';

/** Items whose vectors are compared; a share of 16,384 is exact to half a percent. */
const COMPARED = 16_384;
/** Items whose neighbours are looked for, and those among which. */
const PROBES = 100;
const AMONG = 2000;
const NEIGHBOURS = 10;
const EXAMPLES = 10;
const UNCHANGED = 0.9999;
const MOVED = 0.99;

/** Errors: BELFRY_GENERATION_CORRUPT when files of the generation before are missing or cut off. */
export async function compare(
  subject: GateVectors,
  manifest: Omit<Manifest, 'report'>,
  { id, folder, manifest: before }: PublishedGeneration,
): Promise<Diff> {
  await verifySizes(folder, before); // a file that is shorter than it says must not be mapped
  const idsOf = ({ idsFile, count, file }: VectorSection) => loadIds(folder, idsFile, count, file);
  const itemIds = await idsOf(before.items);
  const users =
    before.users === undefined || subject.userIds === undefined
      ? undefined
      : changeOf(await idsOf(before.users), subject.userIds);
  const median = (section: VectorSection): number => section.norms.p50;
  return {
    generation: id,
    items: changeOf(itemIds, subject.itemIds),
    ...(users === undefined ? {} : { users }),
    ...(before.items.dims === manifest.items.dims
      ? await moves(subject, itemIds, join(folder, before.items.file))
      : {}),
    norms: {
      items: { before: median(before.items), now: median(manifest.items) },
      ...(before.users === undefined || manifest.users === undefined
        ? {}
        : { users: { before: median(before.users), now: median(manifest.users) } }),
    },
    recall: recallOf(before, manifest),
    bytes: { before: bytesOf(before), now: bytesOf(manifest) },
    models: modelChanges(before, manifest),
    feature_schema_changed: before.pins.featureSchema !== manifest.pins.featureSchema,
  };
}

export function bytesOf({ files }: Pick<Manifest, 'files'>): number {
  return Object.values(files).reduce((sum, { bytes }) => sum + bytes, 0);
}

function changeOf(before: IdMap, now: IdMap): Diff['items'] {
  const only = (some: IdMap, others: IdMap) => {
    const examples: (string | number)[] = [];
    let count = 0;
    for (let row = 0; row < some.size; row++) {
      const id = some.idOf(row);
      if (others.rowOf(id) !== undefined) continue;
      if (count++ < EXAMPLES) examples.push(id);
    }
    return { count, examples };
  };
  const [added, removed] = [only(now, before), only(before, now)];
  return {
    before: before.size,
    now: now.size,
    added: added.count,
    removed: removed.count,
    added_examples: added.examples,
    removed_examples: removed.examples,
  };
}

async function moves(
  { items, itemIds, skippedItems }: GateVectors,
  idsBefore: IdMap,
  fileBefore: string,
): Promise<Pick<Diff, 'moved'>> {
  const rows: number[] = [];
  const rowsBefore: number[] = [];
  for (const row of spread(items.rows, [...skippedItems], Math.min(COMPARED, items.rows - skippedItems.size))) {
    const rowBefore = idsBefore.rowOf(itemIds.idOf(row));
    if (rowBefore === undefined) continue;
    rows.push(row);
    rowsBefore.push(rowBefore);
  }
  if (rows.length === 0) return {};
  const matrix = await loadAddon().openMatrix(fileBefore);
  try {
    const now = await vectorsOf(items, rows);
    const before = await vectorsOf(matrix, rowsBefore);
    const cosines = now.map((vector, i) => cosine(vector, before[i]!));
    return {
      moved: {
        compared: rows.length,
        unchanged: cosines.filter((one) => one >= UNCHANGED).length,
        moved: cosines.filter((one) => one < MOVED).length,
        mean_cosine: cosines.reduce((sum, one) => sum + one, 0) / cosines.length,
        neighbours_kept: neighboursKept(now, before),
      },
    };
  } finally {
    matrix.close();
  }
}

async function vectorsOf(matrix: NativeMatrix, rows: readonly number[]): Promise<Float32Array[]> {
  const values = await readRows(matrix, Uint32Array.from(rows));
  return rows.map((_, i) => values.subarray(i * matrix.dims, (i + 1) * matrix.dims));
}

/** Among a sample of the items, so that no second index is needed; turning or scaling all vectors changes nothing. */
function neighboursKept(now: readonly Float32Array[], before: readonly Float32Array[]): number {
  const sample = [...spread(now.length, [], Math.min(AMONG, now.length))];
  const probes = sample.slice(0, PROBES);
  const wanted = Math.min(NEIGHBOURS, sample.length - 1);
  if (wanted < 1) return 1;
  const nearest = (vectors: readonly Float32Array[], probe: number): Set<number> => {
    const others = sample.filter((other) => other !== probe);
    const scores = new Map(others.map((other) => [other, cosine(vectors[probe]!, vectors[other]!)]));
    return new Set(others.sort((a, b) => scores.get(b)! - scores.get(a)!).slice(0, wanted));
  };
  let kept = 0;
  for (const probe of probes) {
    const then = nearest(before, probe);
    for (const other of nearest(now, probe)) if (then.has(other)) kept++;
  }
  return kept / (probes.length * wanted);
}

function recallOf(before: Manifest, now: Pick<Manifest, 'gates'>): Diff['recall'] {
  const measured = now.gates.find(({ name }) => name === 'recall')?.measurements ?? [];
  return measured.flatMap(({ what, value }) => {
    const k = Number(/^recall@(\d+)$/.exec(what)?.[1] ?? 0);
    const earlier = k === 0 ? undefined : recallBefore(before, k);
    return earlier === undefined ? [] : [{ k, before: earlier, now: value }];
  });
}

function modelChanges(before: Manifest, now: Pick<Manifest, 'models'>): Diff['models'] {
  const label = (model: Manifest['models'][number] | undefined): string =>
    model === undefined ? 'none' : `${model.name}@${model.version}`;
  const keys = new Set([...before.models, ...now.models].map(({ role, name }) => `${role} ${name}`));
  return [...keys].flatMap((key) => {
    const of = ({ models }: Pick<Manifest, 'models'>) => models.find(({ role, name }) => `${role} ${name}` === key);
    const [then, today] = [of(before), of(now)];
    return then?.sha256 === today?.sha256
      ? []
      : [{ role: (today ?? then)!.role, before: label(then), now: label(today) }];
  });
}
