/** The golden check: what a training recorded of its scorer is bound and scored again, or the scorer is refused. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { InputBindings } from '../../../src/features/binding-schema.js';
import { FeatureTable } from '../../../src/features/feature-table.js';
import type { BoundScorer } from '../../../src/rerank/bound-scorer.js';
import { checkGolden, goldenPath, type GoldenSources } from '../../../src/rerank/golden.js';
import { expectError } from '../../support/expect-error.js';
import { fileWith } from '../../support/model-fixtures.js';
import { BINDINGS, candidates, itemIds, openScorer, recorded } from '../../support/scorers.js';

const sources: GoldenSources = {
  users: FeatureTable.fromColumns([
    { kind: 'string', name: 'id', codes: Int32Array.of(0), dictionary: ['u'] },
    { kind: 'number', name: 'age', values: Float64Array.of(recorded.user.age as number) },
  ]),
  itemIds,
  hasChangedItems: false,
};
const price = (row: number) => recorded.items.price![row] as number;
const golden = {
  model: 'exported/onnx/broadcast.onnx',
  requests: [
    {
      user_id: 'u',
      context: recorded.context,
      item_ids: candidates.ids,
      retrieval_scores: candidates.scores,
      inputs: {
        user: { row: [recorded.user.age, recorded.context.hour] },
        item: { rows: candidates.rows.map((row, at) => [price(row), candidates.scores[at]]) },
      },
      scores: recorded.outputs.broadcast!.score!,
    },
  ],
};
type Golden = { requests: Record<string, unknown>[] } & Record<string, unknown>;
const changed = (change: (one: Golden) => void): Golden => {
  const copy = structuredClone(golden) as unknown as Golden;
  change(copy);
  return copy;
};

let scorer: BoundScorer;
/** Reads the section where the recorded scorer reads the price. */
let other: BoundScorer;
beforeAll(async () => {
  scorer = await openScorer('broadcast');
  const item = { pack: [{ source: 'item.n0' }, { source: 'retrieval.score' }] };
  other = await openScorer('broadcast', { inputs: { ...BINDINGS.broadcast!, item } as InputBindings });
});
afterAll(async () => {
  await scorer.close();
  await other.close();
});

const check = (content: unknown, by = scorer, from = sources) =>
  checkGolden(fileWith('golden.json', JSON.stringify(content)), 'golden/broadcast.json', by, from);

describe('golden requests', () => {
  it('pass where the scores are those recorded', async () => {
    expect(goldenPath('exported/onnx/broadcast.onnx')).toBe('golden/broadcast.json');
    await check(golden);
    await check(changed(({ requests }) => delete requests[0]!.inputs));
  });

  it('other scores of the same inputs: another model file', async () => {
    const scores = golden.requests[0]!.scores.map((score, at) => (at === 2 ? score + 0.01 : score));
    await expectError(
      check(changed(({ requests }) => Object.assign(requests[0]!, { scores }))),
      'BELFRY_GOLDEN',
      /^golden\/broadcast\.json: requests\.0: broadcast@1 does not score as its export recorded: item "item-3": recorded score .*; all inputs are as recorded, so the model file is another one/,
    );
    await check(
      changed((copy) => Object.assign(copy, { tolerance: 1 }) && Object.assign(copy.requests[0]!, { scores })),
    );
  });

  it('other inputs: the first that differs is named', async () => {
    await expectError(
      check(golden, other),
      'BELFRY_GOLDEN',
      `input item, row 0, column 0: recorded ${price(candidates.rows[0]!)}, bound `,
    );
    await expectError(
      check(
        changed(({ requests }) => delete requests[0]!.inputs),
        other,
      ),
      'BELFRY_GOLDEN',
      'record the inputs too, to see which of them differs',
    );
  });

  it('items that changed since the export are left out, the others are not', async () => {
    const folded = { ...sources, hasChangedItems: true };
    await check(golden, other, folded);
    await check(
      changed(({ requests }) => delete requests[0]!.inputs),
      other,
      folded,
    );
    const scores = golden.requests[0]!.scores.map((score) => score + 1);
    await expectError(
      check(
        changed(({ requests }) => Object.assign(requests[0]!, { scores })),
        scorer,
        folded,
      ),
      'BELFRY_GOLDEN',
      'item "item-8"',
    );
  });

  it.each([
    ['an unknown item', { item_ids: ['gone'], retrieval_scores: [1], scores: [1] }, 'item "gone" is not in the export'],
    ['lists that differ', { scores: [1] }, '7 item_ids, 7 retrieval_scores and 1 scores; they go together'],
    ['no items', { item_ids: [] }, 'requests.0.item_ids'],
  ])('%s is refused', async (_, change, message) => {
    await expectError(check(changed(({ requests }) => Object.assign(requests[0]!, change))), 'BELFRY_GOLDEN', message);
  });

  it('a file that is no JSON, and one that lacks a vector that the scorer reads', async () => {
    await expectError(
      checkGolden(fileWith('g.json', '['), 'golden/g.json', scorer, sources),
      'BELFRY_GOLDEN',
      'golden/g.json: ',
    );
    const item = { source: 'item_embedding', width: 2 };
    const reader = await openScorer('broadcast', { inputs: { ...BINDINGS.broadcast!, item } });
    await expectError(
      check(
        changed(({ requests }) => delete requests[0]!.inputs),
        reader,
      ),
      'BELFRY_GOLDEN',
      'the scorer reads item_embedding; record the input that takes it under `inputs`',
    );
    await reader.close();
  });
});
