/** Variants and shadows behind the HTTP application, with real models: who gets what, what is logged, and what a broken shadow does. */
import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { readModelsFolder } from '../../src/config/models-folder.js';
import { expectError } from '../support/expect-error.js';
import { makeModelsFolder, randomValues, temporaryFolder } from '../support/folders.js';
import { scorerPath } from '../support/scorers.js';
import { type Service, startService } from '../support/service.js';

const DIMS = 4;
const ITEMS = 60;
/** score = Σ over three of (W user)(V [retrieval score, rank]): not the retrieval order. */
const inputs = (first: number, item: unknown[] = [{ source: 'retrieval.score' }, { source: 'retrieval.rank' }]) => ({
  user: {
    pack: [
      { source: 'constant', value: first },
      { source: 'context.hour', missing: 0 },
    ],
  },
  item: { pack: item },
});
const model = (name: string, stage: string, more: object = {}) => ({
  model: name,
  version: '1',
  format: 'onnx',
  path: 'exported/onnx/broadcast.onnx',
  stage,
  role: 'reranker',
  inputs: inputs(1),
  ...more,
});

function folderWith(models: object[], files: Record<string, string> = {}): string {
  const folder = temporaryFolder({ keep: true });
  return makeModelsFolder(folder, {
    items: { data: randomValues(ITEMS * DIMS, 1), dims: DIMS },
    users: { data: randomValues(50 * DIMS, 2), dims: DIMS },
    files: {
      'exported/onnx/broadcast.onnx': readFileSync(scorerPath('broadcast.onnx')),
      'exported/onnx/bags.onnx': readFileSync(scorerPath('bags.onnx')),
      'registry.yaml': stringify({ models }),
      ...files,
    },
  });
}
/** The metrics, once as many shadows as `count` have ended with one of the results. */
const settled = async (service: Service, results: readonly string[], count: number) => {
  for (let tries = 0; tries < 200; tries++) {
    const { body } = await service.app.inject({ method: 'GET', url: '/metrics' });
    const found = [...body.matchAll(/belfry_shadow_total\{[^}]*result="(\w+)"\} (\d+)/g)];
    const sum = found.reduce((all, [, result, n]) => all + (results.includes(result!) ? Number(n) : 0), 0);
    if (sum >= count) return body;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`no ${count} shadows ${results.join(' or ')}`);
};

describe('variants', () => {
  let folder: string;
  let service: Service;
  beforeAll(async () => {
    folder = folderWith([
      model('Main', 'production'),
      model('Test', 'ab-test', { share: 0.3, inputs: inputs(-3) }),
      model('Quiet', 'shadow', { inputs: inputs(-5) }),
    ]);
    service = await startService(folder, { traffic: { shadow_log_items: 10 } });
  });
  afterAll(async () => {
    await service.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const ask = async (body: object, headers: Record<string, string> = {}) =>
    (await service.post('/retrieve', { user_id: 1, k: 5, candidates: 20, ...body }, headers)).json();

  it('users fall into variants by their ids and stay there; the answer names variant, model and reason', async () => {
    const reasons = new Set<string>();
    for (let user_id = 0; user_id < 50; user_id++) {
      const { exposure, models } = await ask({ user_id, rerank: true });
      expect(exposure.variant).toBe(exposure.bucket < 0.3 ? 'test@1' : 'main@1');
      expect(exposure.reason).toBe(exposure.bucket < 0.3 ? 'ab-test' : 'control');
      expect(models.reranker).toBe(exposure.variant);
      expect((await ask({ user_id, rerank: true })).exposure).toEqual(exposure);
      reasons.add(exposure.reason);
    }
    expect(reasons).toEqual(new Set(['ab-test', 'control']));
    expect((await ask({})).exposure).toBeUndefined();
  });

  it('header and body override it; what is unknown is a 400', async () => {
    const header = (value: string) => ({ 'x-belfry-variant': value });
    const main = await ask({ rerank: true }, header('control'));
    const test = await ask({ rerank: true }, header('test@1'));
    expect(main.exposure).toEqual({ variant: 'main@1', reason: 'override' });
    expect(test.exposure).toEqual({ variant: 'test@1', reason: 'override' });
    expect(test.items).not.toEqual(main.items);
    expect((await ask({ rerank: 'quiet' })).exposure).toEqual({ variant: 'quiet@1', reason: 'named' });
    expect((await ask({}, header('test'))).exposure).toBeUndefined();
    for (const [body, headers, field] of [
      [{ rerank: true }, header('nobody'), 'x-belfry-variant'],
      [{ rerank: 'nobody@9' }, {}, 'rerank'],
    ] as const) {
      const answer = await ask(body, headers);
      expect(answer).toMatchObject({ code: 'BELFRY_UNKNOWN_RERANKER', field });
    }
    const batch = await service.post('/retrieve/batch', { requests: [{ user_id: 1, rerank: true }] }, header('test'));
    expect(batch.json().responses[0].exposure.variant).toBe('test@1');
  });

  it('context is read, checked, and refused where nobody reads it', async () => {
    const plain = await ask({ rerank: 'main' });
    const noon = await ask({ rerank: 'main', context: { hour: 12 } });
    expect(noon.items).not.toEqual(plain.items);
    expect(await ask({ rerank: 'main', context: { hour: 'noon' } })).toMatchObject({
      code: 'BELFRY_INVALID_FEATURES',
      field: 'context.hour',
    });
    expect(await ask({ rerank: 'main', context: { minute: 1 } })).toMatchObject({
      code: 'BELFRY_INVALID_FEATURES',
      message: 'context.minute: unknown feature; expected one of hour',
    });
  });

  it('shadows score the candidates of the answer, and are logged and measured', async () => {
    const before = Number(/result="scored"\} (\d+)/.exec((await service.app.inject('/metrics')).body)?.[1] ?? 0);
    const answer = await ask({ user_id: 7, rerank: 'main' });
    const metrics = await settled(service, ['scored'], before + 1);
    const files = readdirSync(join(service.data, 'shadow'));
    expect(files).toHaveLength(1);
    // The line is written after it is counted.
    let last: Record<string, unknown> = {};
    for (let tries = 0; tries < 100 && last.user_id !== 7; tries++) {
      const text = readFileSync(join(service.data, 'shadow', files[0]!), 'utf8').trimEnd();
      last = text === '' ? {} : JSON.parse(text.split('\n').at(-1)!);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(last).toMatchObject({
      user_id: 7,
      generation: answer.generation,
      variant: 'main@1',
      shadow: 'quiet@1',
      k: 5,
      candidates: 20,
    });
    const items = last.items as unknown[];
    expect(items).toHaveLength(10);
    expect(items.slice(0, 5)).toEqual(answer.items.map(({ id }: { id: unknown }) => id));
    // The shadow's own scores are those that it gives when it is asked by name.
    const own = await ask({ user_id: 7, rerank: 'quiet', k: 20 });
    const scoreOf = new Map(own.items.map(({ id, score }: { id: unknown; score: number }) => [id, score]));
    expect(last.shadow_scores).toEqual(items.map((id) => scoreOf.get(id)));
    expect(last.shadow_ranks).toEqual(
      items.map((id) => own.items.findIndex((item: { id: unknown }) => item.id === id) + 1),
    );
    const top = new Set(own.items.slice(0, 5).map(({ id }: { id: unknown }) => id));
    expect(last.overlap).toBe(items.slice(0, 5).filter((id) => top.has(id)).length / 5);
    expect(metrics).toMatch(/belfry_variant_requests_total\{variant="main@1",reason="named"\} \d+/);
    expect(metrics).toMatch(/belfry_variant_seconds_count\{variant="test@1"\} \d+/);
    expect(metrics).toMatch(/belfry_shadow_overlap_count\{reranker="quiet@1"\} \d+/);
    expect(metrics).toMatch(/belfry_shadow_rank_change_sum\{reranker="quiet@1"\} [1-9]/);
  });

  it('the field and the header are in the OpenAPI document', async () => {
    const document = (await service.app.inject('/openapi.json')).json();
    const { parameters, responses } = document.paths['/retrieve'].post;
    expect(parameters).toMatchObject([{ in: 'header', name: 'x-belfry-variant' }]);
    expect(Object.keys(responses['200'].content['application/json'].schema.properties)).toContain('exposure');
  });
});

describe('a test alone, as in the sample', () => {
  it('is what rerank: true means', async () => {
    const folder = folderWith([model('DLRM', 'ab-test')]);
    const service = await startService(folder);
    const { exposure, models } = (await service.post('/retrieve', { user_id: 3, rerank: true })).json();
    expect(exposure).toMatchObject({ variant: 'dlrm@1', reason: 'ab-test' });
    expect(models.reranker).toBe('dlrm@1');
    const anonymous = (await service.post('/retrieve', { item_ids: [3], rerank: true })).json();
    expect(anonymous.exposure).toEqual({ variant: 'dlrm@1', reason: 'no_user' });
    await service.close();
    rmSync(folder, { recursive: true, force: true });
  });
});

describe('a shadow in trouble', () => {
  it('fails, is late, or has no room: answers are as without it, and it is counted', async () => {
    // An index far beyond the table, from the rank of the candidate: the graph refuses it.
    const broken = model('Broken', 'shadow', {
      path: 'exported/onnx/bags.onnx',
      inputs: {
        dense_x: { pack: Array.from({ length: 13 }, () => ({ source: 'constant', value: 0 })) },
        offsets: { offsets_of: ['indices_0', 'indices_1'] },
        indices_0: { source: 'context.tags', width: 4, layout: 'bag' },
        indices_1: { source: 'context.tags', width: 4, layout: 'bag' },
      },
    });
    const folder = folderWith([model('Main', 'production'), broken]);
    const plain = folderWith([model('Main', 'production')]);
    const service = await startService(folder, { traffic: { shadow_queue: 1 } });
    const without = await startService(plain);
    const body = { user_id: 5, k: 5, candidates: 30, rerank: true, timeout_ms: 1000 };
    const expected = (await without.post('/retrieve', body)).json();
    const answers = await Promise.all(
      Array.from({ length: 12 }, () => service.post('/retrieve', { ...body, context: { tags: [999] } })),
    );
    for (const answer of answers) expect(answer.json()).toEqual({ ...expected, generation: service.generation.id });
    // How many find room is a matter of time (the lane's own test holds its scorer still); none is uncounted or scored.
    const metrics = await settled(service, ['failed', 'late', 'dropped'], answers.length);
    expect(metrics).toMatch(/belfry_shadow_total\{reranker="broken@1",result="failed"\} [1-9]/);
    expect(metrics).not.toMatch(/belfry_shadow_total\{reranker="broken@1",result="scored"\}/);
    expect(service.heard[0]).toMatchObject(['broken@1', { code: 'BELFRY_MODEL_FAILED' }]);
    await Promise.all([service.close(), without.close()]);
    for (const one of [folder, plain]) rmSync(one, { recursive: true, force: true });
  });

  it('a shadow that its golden requests refuse is left out; one that serves refuses the generation', async () => {
    const golden = JSON.stringify({ requests: [{ item_ids: [0, 1], retrieval_scores: [1, 2], scores: [100, 100] }] });
    const files = { 'golden/broadcast.json': golden };
    const quiet = folderWith([model('Quiet', 'shadow')], files);
    const service = await startService(quiet);
    expect(service.generation.rerankers).toEqual([]);
    expect(service.generation.rerankerProblems[0]).toMatch(
      /^quiet@1: golden\/broadcast\.json: requests\.0: quiet@1 does not/,
    );
    expect(existsSync(join(service.generation.folder, 'golden/broadcast.json'))).toBe(true);
    await service.close();
    const loud = folderWith([model('Main', 'production')], files);
    await expectError(
      startService(loud),
      'BELFRY_GOLDEN',
      'main@1 does not score as its export recorded: item 0: recorded score 100',
    );
    for (const one of [quiet, loud]) rmSync(one, { recursive: true, force: true });
  });
});

describe('the registry of rerankers', () => {
  it.each([
    [
      'two in production',
      [model('A', 'production'), model('B', 'production')],
      'one reranker can be in production, found a@1, b@1',
    ],
    [
      'a test without a share',
      [model('A', 'production'), model('B', 'ab-test')],
      'b@1 is an ab-test beside others: say its share of the users, `share: 0.1`',
    ],
    [
      'shares beyond 1',
      [model('A', 'ab-test', { share: 0.7 }), model('B', 'ab-test', { share: 0.6 })],
      'the shares of a@1, b@1 add up to 1.29',
    ],
    ['a share that is none', [model('A', 'ab-test', { share: 2 })], 'models.0.share'],
    [
      'a share of another stage',
      [model('A', 'shadow', { share: 0.5 })],
      'a@1: `share` belongs to rerankers of stage ab-test',
    ],
  ])('%s is refused', async (_, models, message) => {
    const folder = folderWith(models);
    await expectError(() => readModelsFolder(folder), 'BELFRY_REGISTRY_INVALID', message);
    rmSync(folder, { recursive: true, force: true });
  });

  it('a calibration file goes into the generation with its hash', async () => {
    const calibration = 'exported/onnx/broadcast.calibration.json';
    const folder = folderWith([model('A', 'production', { output: { name: 'score', calibration } })], {
      [calibration]: '{"kind":"platt","a":0.001,"b":0}',
    });
    const service = await startService(folder);
    expect(service.generation.manifest.files[calibration]?.sha256).toMatch(/^[0-9a-f]{64}$/);
    const { items } = (await service.post('/retrieve', { user_id: 1, rerank: true })).json();
    for (const { score } of items) expect(score > 0 && score < 1).toBe(true);
    await service.close();
    writeFileSync(join(folder, calibration), '{"kind":"platt","a":0,"b":0}');
    await expectError(startService(folder), 'BELFRY_CALIBRATION_INVALID', `${calibration}: a: `);
    expect(statSync(folder).isDirectory()).toBe(true);
    rmSync(folder, { recursive: true, force: true });
  });
});
