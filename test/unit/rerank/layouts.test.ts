/** Every layout of inputs that exports use, end to end through real ONNX models, against Python's scores. */
import { afterEach, describe, expect, it } from 'vitest';
import type { InputBindings } from '../../../src/features/binding-schema.js';
import type { BoundScorer } from '../../../src/rerank/bound-scorer.js';
import type { OnnxRerankerOptions } from '../../../src/rerank/onnx-reranker.js';
import { expectError } from '../../support/expect-error.js';
import { expectClose } from '../../support/model-fixtures.js';
import { BINDINGS, candidates, openScorer, recorded, request } from '../../support/scorers.js';

const opened: BoundScorer[] = [];
afterEach(async () => {
  for (const scorer of opened.splice(0)) await scorer.close();
});
async function open(model: string, options: Partial<OnnxRerankerOptions> = {}): Promise<BoundScorer> {
  const scorer = await openScorer(model, options);
  opened.push(scorer);
  return scorer;
}
const pythons = (model: string, output = 'score'): number[] => recorded.outputs[model]![output]!;
const N = candidates.rows.length;

describe('inputs of a scorer', () => {
  it.each([
    ['a tensor per feature: [N], [N,1], [N,L], strings, booleans', 'per_feature'],
    ['packed numerical [N,13] and categorical [N,26]', 'packed'],
    ['the bag form: dense_x, offsets [T,N], indices_i', 'bags'],
    ['one float matrix [N,W]', 'matrix'],
    ['a user of one row beside N candidates', 'broadcast'],
  ])('%s', async (_, model) => {
    const scorer = await open(model);
    const { scores, nonFinite } = await scorer.score(request, candidates);
    expectClose(scores, pythons(model), 1e-4);
    expect(nonFinite).toBe(0);
  });

  it.each(['per_feature', 'packed', 'bags', 'matrix', 'broadcast'])(
    '%s: pieces of any size give the scores of one run',
    async (model) => {
      for (const rowsMax of [1, 3, N]) {
        const scorer = await open(model, { rowsMax, workers: 2 });
        expectClose((await scorer.score(request, candidates)).scores, pythons(model), 1e-4);
      }
    },
  );

  it('one row of the user where the binding says so and the graph leaves its number open', async () => {
    const scorer = await open('broadcast_open');
    expect(scorer.feedsOf(request, candidates).user!.dims).toEqual([1, 2]);
    expectClose((await scorer.score(request, candidates)).scores, pythons('broadcast'), 1e-4);
    const { broadcast, ...user } = BINDINGS.broadcast_open!.user as Record<string, unknown>;
    expect(broadcast).toBe(true);
    const each = await open('broadcast_open', { inputs: { ...BINDINGS.broadcast!, user } as unknown as InputBindings });
    expect(each.feedsOf(request, candidates).user!.dims).toEqual([N, 2]);
    expectClose((await each.score(request, candidates)).scores, pythons('broadcast'), 1e-4);
  });

  it('requests at once keep to their own users, bags and broadcast rows', async () => {
    for (const model of ['bags', 'broadcast']) {
      const scorer = await open(model, { rowsMax: 2 });
      const requests = Array.from({ length: 12 }, (_, at) => ({
        asked: { ...request, user: { age: at, tags: at % 2 === 0 ? ['a', 'c'] : [] } },
        list: { ...candidates, rows: candidates.rows.slice(at % 3), ids: [], scores: candidates.scores.slice(at % 3) },
      }));
      const alone: Float32Array[] = [];
      for (const { asked, list } of requests) alone.push((await scorer.score(asked, list)).scores);
      const together = await Promise.all(requests.map(({ asked, list }) => scorer.score(asked, list)));
      together.forEach(({ scores }, at) => expect(scores).toEqual(alone[at]));
      expect(new Set(alone.map(String)).size).toBe(requests.length);
    }
  });
});

describe('a model that was exported with a fixed batch', () => {
  it('gets its candidates in pieces, the last one padded, whose scores are dropped', async () => {
    const scorer = await open('fixed', { output: { name: 'extra' } });
    expect(scorer.rowsMax).toBe(4);
    expectClose((await scorer.score(request, candidates)).scores, pythons('tasks', 'extra'), 1e-4);
    const two = { ...candidates, rows: candidates.rows.slice(0, 2) };
    expectClose((await scorer.score(request, two)).scores, pythons('tasks', 'extra').slice(0, 2), 1e-4);
  });

  it('takes bags too: a padded candidate is an empty bag', async () => {
    const scorer = await open('bags_fixed');
    expect(scorer.rowsMax).toBe(3);
    expectClose((await scorer.score(request, candidates)).scores, pythons('bags'), 1e-4);
  });

  it('says so when the registry wants other pieces', async () => {
    await expectError(
      open('fixed', { output: { name: 'extra' }, rowsMax: 8 }),
      'BELFRY_BINDING_MISMATCH',
      'model fixed@1: rows_max is 8, the graph takes batches of exactly 4; remove rows_max',
    );
  });
});

describe('bindings that are refused', () => {
  it.each([
    [
      'a candidate in a broadcast row',
      'broadcast_open',
      { item: { pack: [{ source: 'item.price' }, { source: 'retrieval.score' }], broadcast: true } },
      'input item: `broadcast` sends one row, and item.price has one per candidate',
    ],
    [
      'words with a vocabulary',
      'per_feature',
      { section: { source: 'item.section', vocabulary: { values: ['net'] } } },
      'input section, source item.section: the input takes words, not their numbers',
    ],
    [
      'words that are numbers',
      'per_feature',
      { section: { source: 'retrieval.score' } },
      'is a number, and the input takes strings',
    ],
    [
      'several features in a tensor of words',
      'per_feature',
      { section: { pack: [{ source: 'item.section' }, { source: 'item.section' }] } },
      'strings are bound one feature an input',
    ],
  ] as const)('%s', async (_, model, inputs, message) => {
    await expectError(
      open(model, { inputs: { ...BINDINGS[model]!, ...(inputs as unknown as InputBindings) } }),
      'BELFRY_BINDING_MISMATCH',
      message,
    );
  });

  it('words of a request are checked', async () => {
    const scorer = await open('per_feature', {
      inputs: { ...BINDINGS.per_feature!, section: { source: 'user.city' } },
    });
    scorer.checkRequest({ user: { city: 'x' } });
    await expectError(
      () => scorer.checkRequest({ user: { city: ['x'] } }),
      'BELFRY_INVALID_FEATURES',
      'features.city: expected a single string, received ["x"]',
    );
    expect(scorer.feedsOf(request, candidates).section!.data).toEqual(Array.from({ length: N }, () => 'x'));
    expect(scorer.feedsOf({}, candidates).section!.data).toEqual(Array.from({ length: N }, () => ''));
  });
});
