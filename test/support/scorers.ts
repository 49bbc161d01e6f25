/** The scorers of test/fixtures/scorers with their tables and request, and what Python onnxruntime scored (make_scorers.py). */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { FeatureSource, InputBindings } from '../../src/features/binding-schema.js';
import { Dictionary, type FeatureColumn } from '../../src/features/feature-column.js';
import { FeatureTable } from '../../src/features/feature-table.js';
import type { BoundScorer } from '../../src/rerank/bound-scorer.js';
import { openOnnxReranker, type OnnxRerankerOptions } from '../../src/rerank/onnx-reranker.js';
import type { Features, FeatureValue } from '../../src/types.js';

type Cell = FeatureValue;

export const recorded = JSON.parse(readFileSync(scorerPath('scorers.json'), 'utf8')) as {
  items: Record<string, Cell[]>;
  user: Features;
  context: Features;
  rows: number[];
  scores: number[];
  outputs: Record<string, Record<string, number[]>>;
};

export function scorerPath(file: string): string {
  return fileURLToPath(new URL(`../fixtures/scorers/${file}`, import.meta.url));
}

export const itemIds = recorded.items.price!.map((_, row) => `item-${row}`);
export const items = FeatureTable.fromColumns(
  Object.entries({ id: itemIds as Cell[], ...recorded.items }).map(([name, cells]) => columnOf(name, cells)),
);
export const request = { user: recorded.user, context: recorded.context };
export const candidates = {
  rows: recorded.rows,
  ids: recorded.rows.map((row) => itemIds[row]!),
  scores: recorded.scores,
};

const section = (side: 'item'): FeatureSource => ({
  source: `${side}.section`,
  vocabulary: { values: ['net', 'web', 'admin'] },
  offset: 1,
});
const tags = (side: 'item' | 'user', width: number): FeatureSource => ({
  source: `${side}.tags`,
  width,
  vocabulary: { values: ['a', 'b', 'c', 'd'] },
  offset: 1,
  oov: 'skip',
});
const each = (prefix: string, count: number): FeatureSource[] =>
  Array.from({ length: count }, (_, at) => ({ source: `item.${prefix}${at}` }));

const numerical = { pack: [{ source: 'user.age' }, { source: 'retrieval.score' }, ...each('n', 11)] };
const bag: InputBindings = {
  dense_x: numerical,
  offsets: { offsets_of: ['indices_0', 'indices_1'] },
  indices_0: { ...tags('item', 8), layout: 'bag' },
  indices_1: { ...tags('user', 8), layout: 'bag' },
};
const userAndItem: InputBindings = {
  user: { pack: [{ source: 'user.age' }, { source: 'context.hour' }] },
  item: { pack: [{ source: 'item.price' }, { source: 'retrieval.score' }] },
};

/** As in registry.yaml. */
export const BINDINGS: Readonly<Record<string, InputBindings>> = {
  per_feature: {
    tags: tags('item', 3),
    section: { source: 'item.section', dtype: 'string' },
    free: { source: 'item.free', dtype: 'bool' },
    price: { source: 'item.price' },
    hour: { source: 'context.hour' },
    rank: { source: 'retrieval.rank' },
  },
  packed: { numerical, categorical: { dtype: 'int32', pack: [section('item'), ...each('c', 25)] } },
  bags: bag,
  bags_fixed: bag,
  matrix: {
    x: {
      pack: [
        { source: 'item.price' },
        section('item'),
        { source: 'user.age' },
        { source: 'retrieval.score' },
        { source: 'retrieval.rank' },
      ],
    },
  },
  broadcast: userAndItem,
  broadcast_open: { ...userAndItem, user: { ...userAndItem.user!, broadcast: true } as InputBindings[string] },
  tasks: userAndItem,
  fixed: userAndItem,
};

export function openScorer(model: string, options: Partial<OnnxRerankerOptions> = {}): Promise<BoundScorer> {
  return openOnnxReranker({
    name: model,
    version: '1',
    modelPath: scorerPath(`${model}.onnx`),
    dims: 2,
    items,
    vocabularies: { file: () => Promise.resolve([]), ids: () => itemIds },
    inputs: BINDINGS[model]!,
    ...options,
  });
}

function columnOf(name: string, cells: readonly Cell[]): FeatureColumn {
  const dictionary = new Dictionary();
  const first = cells.find((cell) => cell !== null);
  if (typeof first === 'number') return { kind: 'number', name, values: Float64Array.from(cells as number[]) };
  if (typeof first === 'boolean')
    return { kind: 'boolean', name, values: Uint8Array.from(cells, (cell) => (cell === true ? 1 : 0)) };
  if (typeof first === 'string') {
    const codes = Int32Array.from(cells, (cell) => (cell === null ? -1 : dictionary.encode(cell as string)));
    return { kind: 'string', name, codes, dictionary: dictionary.values };
  }
  const offsets = new Uint32Array(cells.length + 1);
  const codes = cells.flatMap((cell, row) => {
    const list = (cell as readonly string[]).map((word) => dictionary.encode(word));
    offsets[row + 1] = offsets[row]! + list.length;
    return list;
  });
  return { kind: 'string_list', name, offsets, codes: Int32Array.from(codes), dictionary: dictionary.values };
}
