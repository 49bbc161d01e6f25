/** The sample's models against what Python onnxruntime recorded (embeddings/sample/golden). */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { FeatureTable } from '../../../src/features/feature-table.js';
import { readVocabularyFile, type VocabularySources } from '../../../src/features/vocabulary.js';
import type { BoundScorer } from '../../../src/rerank/bound-scorer.js';
import { checkGolden } from '../../../src/rerank/golden.js';
import { openOnnxReranker, type OnnxRerankerOptions } from '../../../src/rerank/onnx-reranker.js';
import { UserTower, type UserTowerOptions } from '../../../src/tower/user-tower.js';
import type { Features } from '../../../src/types.js';
import { expectError } from '../../support/expect-error.js';
import { expectClose } from '../../support/model-fixtures.js';

interface RegistryRow {
  model: string;
  path: string;
  inputs: NonNullable<UserTowerOptions['inputs']>;
  output: NonNullable<UserTowerOptions['output']>;
}
interface Tensor {
  rows?: number[][];
  row?: number[];
}

const folder = (path: string): string => fileURLToPath(new URL(`../../../embeddings/sample/${path}`, import.meta.url));
const text = (path: string): string => readFileSync(folder(path), 'utf8');
const ids = (path: string): string[] => text(path).trimEnd().split('\n');
const models = (parse(text('registry.yaml')) as { models: RegistryRow[] }).models;
const itemIds = ids('embeddings/item_ids.txt');
const userIds = ids('embeddings/user_ids.txt');
const vocabularies: VocabularySources = {
  file: (path) => readVocabularyFile(folder(path), path),
  ids: (side) => (side === 'items' ? itemIds : userIds),
};
const { dims } = JSON.parse(text('embeddings/export.json')) as { dims: number };

let users: FeatureTable;
let items: FeatureTable;
let tower: UserTower;
let reranker: BoundScorer;

beforeAll(async () => {
  users = (await FeatureTable.open(folder('features/users.parquet'))).alignTo(userIds);
  items = (await FeatureTable.open(folder('features/items.parquet'))).alignTo(itemIds);
  const two = models.find((row) => row.model === 'Two-Tower')!;
  const dlrm = models.find((row) => row.model === 'DLRM')!;
  const common = { dims, users, vocabularies };
  tower = await UserTower.open({
    ...common,
    name: 'two-tower@1.0',
    modelPath: folder(two.path),
    inputs: two.inputs,
    output: two.output,
  });
  const options: OnnxRerankerOptions = {
    ...common,
    name: 'dlrm',
    version: '1.0',
    modelPath: folder(dlrm.path),
    inputs: dlrm.inputs,
    output: dlrm.output,
    items,
  };
  reranker = await openOnnxReranker(options);
});
afterAll(async () => {
  await tower?.close();
  await reranker?.close();
});

describe('the user tower of the sample', () => {
  const golden = JSON.parse(text('golden/user_tower.json')) as {
    tolerance: number;
    cases: { features: Features; user_embedding: number[] }[];
  };

  it('is the user part of the combined graph', () => {
    expect(tower.isCut).toBe(true);
    expect(tower.inputs.map((input) => input.name)).toEqual(['user_features']);
  });

  it.each(golden.cases)('embeds typed features as Python does: case %$', async ({ features, user_embedding }) => {
    expectClose((await tower.embed(features)).vector, user_embedding, golden.tolerance);
  });

  it('reproduces user_embeddings.npy from the stored features', async () => {
    const stored = float16Rows(readFileSync(folder('embeddings/user_embeddings.npy')), dims);
    const rows = Array.from({ length: 500 }, (_, i) => Math.floor((i * userIds.length) / 500));
    const { data } = await tower.embedRows(rows);
    let worst = 1;
    rows.forEach((row, i) => {
      worst = Math.min(worst, cosine(data.subarray(i * dims, (i + 1) * dims), stored(row)));
    });
    expect(worst).toBeGreaterThan(0.999);
  });

  it('gives the same vector from a row of the table as from its features typed out', async () => {
    const rows = [0, 1000, userIds.length - 1];
    const typed = rows.map((row) => users.featuresAt(row));
    expectClose((await tower.embedMany(typed)).data, (await tower.embedRows(rows)).data, 1e-5);
  });
});

describe('the DLRM of the sample', () => {
  const golden = JSON.parse(text('golden/dlrm.json')) as {
    tolerance: number;
    requests: {
      user_id: string;
      item_ids: string[];
      retrieval_scores: number[];
      inputs: Record<string, Tensor>;
      scores: number[];
    }[];
  };
  const rowOf = new Map(itemIds.map((id, row) => [id, row]));

  it.each(golden.requests)('scores candidates as Python does: $user_id', async (request) => {
    const { scores, nonFinite, gatherMs } = await reranker.score(
      {
        userId: request.user_id,
        user: users.featuresOf(request.user_id)!,
        userEmbedding: Float32Array.from(request.inputs.user_embedding!.row!),
      },
      {
        rows: Int32Array.from(request.item_ids, (id) => rowOf.get(id)!),
        ids: request.item_ids,
        scores: request.retrieval_scores,
        embeddings: Float32Array.from(request.inputs.item_embedding!.rows!.flat()),
      },
    );
    expectClose(scores, request.scores, golden.tolerance);
    expect(nonFinite).toBe(0);
    expect(gatherMs).toBeGreaterThan(0);
  });
});

describe('the golden requests of the sample, as they are checked at load', () => {
  it('pass with its features, and name what differs with other ones', async () => {
    const sources = { users, itemIds, hasChangedItems: false };
    await checkGolden(folder('golden/dlrm.json'), 'golden/dlrm.json', reranker, sources);
    const shifted = [...itemIds.slice(1), itemIds[0]!];
    await expectError(
      checkGolden(folder('golden/dlrm.json'), 'golden/dlrm.json', reranker, { ...sources, itemIds: shifted }),
      'BELFRY_GOLDEN',
      /requests\.0: dlrm@1\.0 does not score as its export recorded: .* input \w+, row 0, column \d+: recorded .*, bound /,
    );
  });
});

/** Rows of a little-endian f2 or f4 .npy of version 1, written by our own script. */
function float16Rows(bytes: Buffer, width: number): (row: number) => Float32Array {
  const header = bytes.subarray(10, 10 + bytes.readUInt16LE(8)).toString('latin1');
  const start = 10 + bytes.readUInt16LE(8);
  const isHalf = header.includes("'<f2'");
  return (row) =>
    Float32Array.from({ length: width }, (_, dim) => {
      const at = row * width + dim;
      if (!isHalf) return bytes.readFloatLE(start + 4 * at);
      const half = bytes.readUInt16LE(start + 2 * at);
      const exponent = (half >> 10) & 31;
      const magnitude = exponent === 0 ? (half & 1023) * 2 ** -24 : (1 + (half & 1023) / 1024) * 2 ** (exponent - 15);
      return half & 0x8000 ? -magnitude : magnitude;
    });
}

function cosine(a: Float32Array, b: Float32Array): number {
  let [dot, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    dot += a[i]! * b[i]!;
    aa += a[i]! ** 2;
    bb += b[i]! ** 2;
  }
  return dot / Math.sqrt(aa * bb);
}
