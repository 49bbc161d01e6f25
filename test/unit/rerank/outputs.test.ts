/** From the outputs of a graph to one score: tasks, weights, activations, calibrations. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import type { OutputBinding } from '../../../src/features/binding-schema.js';
import type { BoundScorer } from '../../../src/rerank/bound-scorer.js';
import { calibrationOf, readCalibration } from '../../../src/rerank/calibration.js';
import { expectError } from '../../support/expect-error.js';
import { expectClose, fileWith } from '../../support/model-fixtures.js';
import { candidates, openScorer, recorded, request, scorerPath } from '../../support/scorers.js';

const opened: BoundScorer[] = [];
afterEach(async () => {
  for (const scorer of opened.splice(0)) await scorer.close();
});
async function scoresWith(output: OutputBinding, calibration?: unknown): Promise<Float32Array> {
  const calibrations = new Map(calibration === undefined ? [] : [['c.json', calibrationOf(calibration, 'c.json')]]);
  const scorer = await openScorer('tasks', { output, calibrations });
  opened.push(scorer);
  return (await scorer.score(request, candidates)).scores;
}
const heads = (task: number) => recorded.outputs.tasks!.heads!.filter((_, at) => at % 3 === task);
const extra = recorded.outputs.tasks!.extra!;
const sigmoid = (value: number) => 1 / (1 + Math.exp(-value));

describe('outputs', () => {
  it('one task, or another output', async () => {
    expectClose(await scoresWith({ name: 'heads', task: 2 }), heads(2), 1e-4);
    expectClose(await scoresWith('extra'), extra, 1e-4);
  });

  it('the weighted sum of tasks, over several outputs', async () => {
    const scores = await scoresWith({
      name: 'heads',
      tasks: [
        { task: 0, weight: 2, activation: 'sigmoid' },
        { task: 1, weight: -0.5 },
        { name: 'extra', weight: 0.1 },
      ],
    });
    expectClose(
      scores,
      extra.map((value, at) => 2 * sigmoid(heads(0)[at]!) - 0.5 * heads(1)[at]! + 0.1 * value),
      1e-4,
    );
  });

  it('the product of powers', async () => {
    const scores = await scoresWith({
      name: 'heads',
      combine: 'product',
      tasks: [
        { task: 0, weight: 0.5, activation: 'sigmoid' },
        { task: 1, activation: 'sigmoid' },
      ],
    });
    expectClose(
      scores,
      extra.map((_, at) => sigmoid(heads(0)[at]!) ** 0.5 * sigmoid(heads(1)[at]!)),
      1e-5,
    );
  });

  it('a power of a negative number is no number, and counted', async () => {
    const scorer = await openScorer('tasks', {
      output: { name: 'extra', combine: 'product', tasks: [{ weight: 0.5 }] },
    });
    opened.push(scorer);
    const { scores, nonFinite } = await scorer.score(request, {
      ...candidates,
      scores: candidates.scores.map(() => -50),
    });
    expect(nonFinite).toBe(scores.length);
  });

  it.each([
    [{ tasks: [{ task: 0 }] }, 'it has the outputs heads, extra; name the score'],
    [
      { name: 'heads', tasks: [{ task: 0 }, { name: 'other' }] },
      'output other is not in the graph, which has heads, extra',
    ],
  ] as const)('%j is refused', async (output, message) => {
    await expectError(scoresWith(output as unknown as OutputBinding), 'BELFRY_BINDING_MISMATCH', message);
  });

  it('a task that the output does not have is refused at load', async () => {
    await expectError(
      scoresWith({ name: 'heads', tasks: [{ task: 0 }, { task: 3 }] }),
      'BELFRY_MODEL_OUTPUT_INVALID',
      'output heads: it has 3 tasks',
    );
  });
});

describe('calibration', () => {
  it('platt and temperature take the logit', async () => {
    const platt = await scoresWith({ name: 'extra', calibration: 'c.json' }, { kind: 'platt', a: 0.7, b: -1 });
    expectClose(
      platt,
      extra.map((value) => sigmoid(0.7 * value - 1)),
      1e-5,
    );
    const temperature = await scoresWith(
      { name: 'extra', calibration: 'c.json' },
      { kind: 'temperature', temperature: 4 },
    );
    expectClose(
      temperature,
      extra.map((value) => sigmoid(value / 4)),
      1e-5,
    );
  });

  it('isotonic: linear between the points, constant beyond them', () => {
    const { apply } = calibrationOf({ kind: 'isotonic', x: [0, 1, 3, 4], y: [0.1, 0.1, 0.5, 1] }, 'c.json');
    expectClose([-5, 0, 0.5, 1, 2, 3, 3.5, 4, 9].map(apply), [0.1, 0.1, 0.1, 0.1, 0.3, 0.5, 0.75, 1, 1], 1e-12);
    expect(apply(Number.NaN)).toBeNaN();
    expect(apply(Number.POSITIVE_INFINITY)).toBe(1);
  });

  it('of one task among others, after its activation', async () => {
    const scores = await scoresWith(
      {
        name: 'heads',
        tasks: [
          { task: 1, activation: 'sigmoid', calibration: 'c.json' },
          { name: 'extra', weight: 0 },
        ],
      },
      { kind: 'isotonic', x: [0, 1], y: [0, 0.25] },
    );
    expectClose(
      scores,
      heads(1).map((value) => sigmoid(value) / 4),
      1e-5,
    );
  });

  it.each([
    [null, 'kind: expected platt, temperature, isotonic, received nothing'],
    [{ kind: 'spline' }, 'kind: expected platt, temperature, isotonic, received "spline"'],
    [{ kind: 'platt', a: -1, b: 0 }, 'a'],
    [{ kind: 'temperature', temperature: 0 }, 'temperature'],
    [{ kind: 'temperature', temperature: 1, extra: 1 }, 'extra'],
    [{ kind: 'isotonic', x: [0, 1], y: [0, 1, 2] }, 'x has 2 points and y 3'],
    [{ kind: 'isotonic', x: [0, 0], y: [0, 1] }, 'x.1: expected more than 0, received 0'],
    [{ kind: 'isotonic', x: [0, 1], y: [1, 0] }, 'y.1: expected at least 1, received 0'],
  ])('%j is refused', async (form, message) => {
    const error = await expectError(
      () => calibrationOf(form, 'exported/c.json'),
      'BELFRY_CALIBRATION_INVALID',
      message,
    );
    expect(error.message).toMatch(/^exported\/c\.json: .*; fit it again, or correct the file$/);
  });

  it('a file that is no JSON is refused, and a sigmoid before one', async () => {
    await expectError(readCalibration(fileWith('c.json', '{'), 'c.json'), 'BELFRY_CALIBRATION_INVALID', 'c.json: ');
    await expectError(readCalibration('/nowhere/c.json', 'c.json'), 'BELFRY_CALIBRATION_INVALID', 'ENOENT');
    await expectError(
      scoresWith({ name: 'extra', activation: 'sigmoid', calibration: 'c.json' }, { kind: 'platt', a: 1, b: 0 }),
      'BELFRY_BINDING_MISMATCH',
      'calibration c.json (platt) ends in a sigmoid itself; set `activation: none`',
    );
  });

  it('one that was fitted for another model is refused', async () => {
    const calibrations = new Map([
      ['c.json', calibrationOf({ kind: 'platt', a: 1, b: 0, model_sha256: 'a'.repeat(64) }, 'c.json')],
    ]);
    const sha256 = createHash('sha256')
      .update(readFileSync(scorerPath('tasks.onnx')))
      .digest('hex');
    await expectError(
      openScorer('tasks', { output: { name: 'extra', calibration: 'c.json' }, calibrations, sha256 }),
      'BELFRY_CALIBRATION_INVALID',
      `c.json: it was fitted for the model ${'a'.repeat(64)}, tasks@1 is ${sha256}`,
    );
  });
});
