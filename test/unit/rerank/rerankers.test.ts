import { afterEach, describe, expect, it } from 'vitest';
import { FeatureTable } from '../../../src/features/feature-table.js';
import { ModuleReranker } from '../../../src/rerank/module-reranker.js';
import type { BoundScorer } from '../../../src/rerank/bound-scorer.js';
import { openOnnxReranker, type OnnxRerankerOptions } from '../../../src/rerank/onnx-reranker.js';
import type { Reranker } from '../../../src/rerank/reranker.js';
import { expectError } from '../../support/expect-error.js';
import { expectClose, expected, fileWith, modelPath } from '../../support/model-fixtures.js';

const items = FeatureTable.fromColumns([
  { kind: 'string', name: 'id', codes: Int32Array.from([0, 1, 2]), dictionary: ['a', 'b', 'c'] },
  { kind: 'number', name: 'n1', values: Float64Array.from([0.1, 1, -1]) },
  { kind: 'number', name: 'n2', values: Float64Array.from([0.2, 2, 0]) },
  { kind: 'number', name: 'n3', values: Float64Array.from([0.3, 3, 1]) },
  { kind: 'number', name: 'c1', values: Float64Array.from([0, 2, 7]) },
  { kind: 'number', name: 'c2', values: Float64Array.from([1, 3, 0]) },
]);
const scorer = expected.scorer![0]!.outputs.score!.data;
const task = (index: number) => scorer.filter((_, i) => i % 2 === index);

const opened: Reranker[] = [];
afterEach(async () => {
  for (const reranker of opened.splice(0)) await reranker.close();
});

const OPTIONS: OnnxRerankerOptions = {
  name: 'scorer',
  version: '1.0',
  modelPath: modelPath('scorer.onnx'),
  dims: 4,
  items,
  vocabularies: { file: () => Promise.resolve([]), ids: () => [] },
  inputs: {
    numerical: { pack: [{ source: 'item.n1' }, { source: 'item.n2' }, { source: 'item.n3' }] },
    categorical: { dtype: 'int64', pack: [{ source: 'item.c1' }, { source: 'item.c2' }] },
  },
  output: { name: 'score', task: 0 },
};
async function open(options: Partial<OnnxRerankerOptions> = {}): Promise<BoundScorer> {
  const reranker = await openOnnxReranker({ ...OPTIONS, ...options });
  opened.push(reranker);
  return reranker;
}
const ALL = { rows: [0, 1, 2], ids: ['a', 'b', 'c'], scores: [3, 2, 1] };

describe('an ONNX scorer', () => {
  it.each([0, 1])('gives the scores of task %i that Python gives', async (index) => {
    const reranker = await open({ output: { name: 'score', task: index } });
    const { scores, nonFinite, queueMs, runMs, gatherMs } = await reranker.score({}, ALL);
    expectClose(scores, task(index));
    expect(nonFinite).toBe(0);
    for (const ms of [queueMs, runMs, gatherMs]) expect(ms).toBeGreaterThan(0);
  });

  it('follows the order of the candidates, and applies a sigmoid', async () => {
    const reranker = await open({ output: { name: 'score', task: 0, activation: 'sigmoid' } });
    const { scores } = await reranker.score({}, { rows: [2, 0], ids: ['c', 'a'], scores: [2, 1] });
    expectClose(
      scores,
      [task(0)[2]!, task(0)[0]!].map((value) => 1 / (1 + Math.exp(-value))),
    );
    expect((await reranker.score({}, { rows: [], ids: [], scores: [] })).scores.length).toBe(0);
  });

  it('takes one input of each dtype, and [N] outputs', async () => {
    const source = { source: 'retrieval.score' };
    const reranker = await open({
      modelPath: modelPath('dtypes.onnx'),
      output: 'score',
      inputs: { f32: source, f64: source, f16: source, i32: source, i64: source, flag: source },
    });
    expectClose((await reranker.score({}, { ...ALL, scores: [3, 2, 0] })).scores, [16, 11, 0]);
  });

  it('counts scores that are not finite and leaves the others', async () => {
    const source = { source: 'retrieval.score' };
    const reranker = await open({
      modelPath: modelPath('nan_output.onnx'),
      output: { name: 'y', task: 3 },
      inputs: { x: { pack: [source, source, source, source] } },
    });
    const { scores, nonFinite } = await reranker.score({}, { ...ALL, scores: [4, -1, 9] });
    expect([...scores]).toEqual([2, Number.NaN, 3]);
    expect(nonFinite).toBe(1);
  });

  it('refuses outputs of the wrong shape at load', async () => {
    const source = { source: 'retrieval.score' };
    await expectError(
      open({
        modelPath: modelPath('one_row.onnx'),
        output: { name: 'y', task: 0 },
        inputs: { x: { pack: [source, source, source, source] } },
      }),
      'BELFRY_MODEL_OUTPUT_INVALID',
      'model scorer@1.0, output y: expected [2], [2, 1] or [2, tasks], received [1, 4]',
    );
    await expectError(
      open({ output: 'score' }),
      'BELFRY_MODEL_OUTPUT_INVALID',
      'output score: it has 2 tasks; set `output: { name: score, task: 0 to 1 }`, now not set',
    );
    await expectError(
      open({ output: { name: 'score', task: 2 } }),
      'BELFRY_MODEL_OUTPUT_INVALID',
      'task: 0 to 1 }`, now 2',
    );
    await expectError(
      open({ output: 'nope' }),
      'BELFRY_BINDING_MISMATCH',
      'model scorer@1.0: output nope is not in the graph, which has score',
    );
    await expectError(
      open({ modelPath: modelPath('two_tower.onnx'), output: undefined as never }),
      'BELFRY_BINDING_MISMATCH',
      'it has the outputs user_embedding, item_embedding; name the score',
    );
  });

  it('abandons at the deadline and goes on', async () => {
    const reranker = await open();
    await expectError(
      reranker.score({}, ALL, AbortSignal.abort()),
      'BELFRY_DEADLINE_EXCEEDED',
      'model scorer@1.0: the deadline passed',
    );
    expectClose((await reranker.score({}, ALL)).scores, task(0));
  });

  it('fails as a whole when the graph refuses an index, and names the model', async () => {
    const far = FeatureTable.fromColumns([
      { kind: 'string', name: 'id', codes: Int32Array.from([0]), dictionary: ['a'] },
      ...['n1', 'n2', 'n3', 'c1', 'c2'].map((name) => ({
        kind: 'number' as const,
        name,
        values: Float64Array.from([99]),
      })),
    ]);
    const reranker = await open({ items: far });
    await expectError(
      reranker.score({}, { rows: [0], ids: ['a'], scores: [1] }),
      'BELFRY_MODEL_FAILED',
      /^model scorer@1\.0: .*out of/s,
    );
  });

  it('checks the features of a request that it reads', async () => {
    const reranker = await open({
      inputs: {
        ...OPTIONS.inputs,
        numerical: { pack: [{ source: 'user.age' }, { source: 'context.hour' }, { source: 'item.n1' }] },
      },
    });
    expect(reranker.needs).toMatchObject({ user: ['age'], context: ['hour'] });
    reranker.checkRequest({ user: { age: 3, other: 'x' }, context: { hour: 2 } });
    await expectError(
      () => reranker.checkRequest({ user: { age: 'three' } }),
      'BELFRY_INVALID_FEATURES',
      'features.age: expected a number, received "three"',
    );
    await expectError(
      () => reranker.checkRequest({ context: { hour: [1] } }),
      'BELFRY_INVALID_FEATURES',
      'context.hour: expected a single number, received [1]',
    );
  });

  it('embeds the id of a known user', async () => {
    const sourceOfId = { source: 'user.id', vocabulary: { values: ['x', 'u'] }, offset: 1 };
    const reranker = await open({ inputs: { ...OPTIONS.inputs, categorical: { pack: [sourceOfId, sourceOfId] } } });
    const score = async (request: Parameters<Reranker['score']>[0]) => (await reranker.score(request, ALL)).scores;
    expect(await score({ userId: 'u' })).toEqual(await score({ user: { id: 'u' } }));
    expect(await score({ userId: 'u' })).not.toEqual(await score({}));
  });
});

describe('a reranker in code', () => {
  const moduleWith = (code: string): Promise<ModuleReranker> =>
    ModuleReranker.open({ name: 'mine', version: '0', modulePath: fileWith('mine.mjs', code), items });

  it('gets the request and the candidates with their features', async () => {
    const reranker = await moduleWith(
      'export const rerank = (request, candidates) => candidates.map((c) => c.features.n1 * request.user.factor + c.rank + c.score + (c.id === "a" ? 100 : 0));',
    );
    const { scores, nonFinite } = await reranker.score({ user: { factor: 10 } }, ALL);
    expectClose(scores, [105, 14, -6]);
    expect(nonFinite).toBe(0);
  });

  it.each([
    [
      'too few scores',
      'return [1, 2];',
      'BELFRY_MODEL_OUTPUT_INVALID',
      'reranker mine: expected 3 numbers, received 2 values',
    ],
    ['no list', 'return "abc";', 'BELFRY_MODEL_OUTPUT_INVALID', 'reranker mine: expected 3 numbers, received "abc"'],
    ['no numbers', 'return ["1", "2", "3"];', 'BELFRY_MODEL_OUTPUT_INVALID', 'expected 3 numbers'],
    ['an exception', 'throw new Error("boom");', 'BELFRY_MODEL_FAILED', 'boom'],
  ] as const)('%s', async (_, body, code, message) => {
    await expectError((await moduleWith(`export function rerank() { ${body} }`)).score({}, ALL), code, message);
  });

  it('counts scores that are not finite', async () => {
    const reranker = await moduleWith('export async function rerank() { return [1, NaN, Infinity]; }');
    expect((await reranker.score({}, ALL)).nonFinite).toBe(2);
  });

  it('is abandoned at the deadline, and gets the signal', async () => {
    const reranker = await moduleWith(
      'export const rerank = (r, c, signal) => new Promise((done) => signal.addEventListener("abort", () => { globalThis.rerankSawAbort = true; done([]); }));',
    );
    await expectError(
      reranker.score({}, ALL, AbortSignal.timeout(20)),
      'BELFRY_DEADLINE_EXCEEDED',
      'reranker mine: the deadline passed',
    );
    expect((globalThis as { rerankSawAbort?: boolean }).rerankSawAbort).toBe(true);
  });

  it('must be a module with that function', async () => {
    await expectError(
      moduleWith('export const other = 1;'),
      'BELFRY_MODEL_INVALID',
      'reranker mine: expected an exported function `rerank(request, candidates, signal)`, found other',
    );
    await expectError(
      moduleWith('export const ='),
      'BELFRY_MODEL_INVALID',
      'reranker mine: its module cannot be loaded',
    );
  });
});
