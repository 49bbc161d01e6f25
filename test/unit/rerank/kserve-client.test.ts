/** The client of model servers against the strict fake: what it sends, what it tries again, what it refuses. */
import { afterEach, describe, expect, it, onTestFinished } from 'vitest';
import { KserveClient, type KserveServerOptions } from '../../../src/rerank/kserve/kserve-client.js';
import { KserveReranker } from '../../../src/rerank/kserve/kserve-reranker.js';
import type { TensorData } from '../../../src/types.js';
import { expectError } from '../../support/expect-error.js';
import { type FakeOptions, KserveFake } from '../../support/kserve-fake.js';
import { readRecorded, dcnInputs } from '../../support/kserve-recorded.js';
import { startReplay } from '../../support/kserve-replay.js';

const DENSE: FakeOptions['inputs'] = [{ name: 'dense', datatype: 'FP32', shape: [-1, 2] }];
const feeds = (rows = 3): Record<string, TensorData> => ({
  dense: { dtype: 'float32', dims: [rows, 2], data: new Float32Array(rows * 2).fill(4) },
});
const DCN = { model: 'dcn-v2' };

const clients: KserveClient[] = [];
afterEach(async () => {
  await Promise.all(clients.splice(0).map((client) => client.close()));
});

function clientOf(url: string, options: Partial<KserveServerOptions> = {}): KserveClient {
  const client = new KserveClient({ name: 'triton', url, ...options });
  clients.push(client);
  return client;
}

async function fakeOf(options: Partial<FakeOptions> = {}): Promise<KserveFake> {
  const fake = await KserveFake.start({ inputs: DENSE, ...options });
  onTestFinished(() => fake.stop());
  return fake;
}

describe('a client', () => {
  it('replays the recorded exchanges with Triton, byte for byte', async () => {
    const replay = await startReplay(readRecorded());
    const client = clientOf(replay.url);
    expect(await client.takesBinary()).toBe(true);
    const { inputs, versions } = await client.metadata(DCN);
    expect([versions, inputs.length]).toEqual([['1'], 7]);
    const { outputs } = await client.infer(DCN, dcnInputs(), ['score'], true);
    const scores = Array.from(outputs.score!.data as Float32Array);
    expect(scores.every((score, at) => Math.abs(score - readRecorded().scores[at]!) < 1e-5)).toBe(true);
    expect(replay.unexpected).toEqual([]);
  });

  it('asks for a version, and takes no other', async () => {
    const fake = await fakeOf({ versions: ['1', '3'] });
    const client = clientOf(`${fake.url}/`);
    await client.modelMustBeReady({ ...DCN, version: '3' });
    await client.mustBeReady();
    expect(fake.seen.map(({ path }) => path)).toEqual([
      '/v2/models/dcn-v2/versions/3/ready',
      '/v2/health/live',
      '/v2/health/ready',
    ]);
    await expectError(
      client.infer({ ...DCN, version: '3' }, feeds(), ['score'], true),
      'BELFRY_MODEL_OUTPUT_INVALID',
      'version 3 was asked, version 1 answers',
    );
    await expectError(
      client.metadata({ ...DCN, version: '9' }),
      'BELFRY_MODEL_SERVER_FAILED',
      'answers 404: "Request for unknown model',
    );
  });

  it('sends the credentials, and shows them in no error', async () => {
    const fake = await fakeOf();
    const client = clientOf(fake.url, { authorization: 'Bearer top-secret' });
    await client.mustBeReady();
    expect(fake.seen[0]!.headers.authorization).toBe('Bearer top-secret');
    fake.fault = '500';
    const error = await expectError(
      client.infer(DCN, feeds(), ['score'], true),
      'BELFRY_MODEL_SERVER_FAILED',
      'answers 500',
    );
    expect(JSON.stringify(error) + String(error.stack)).not.toContain('top-secret');
  });

  it('tries again only what was never sent, and only within its budget', async () => {
    const fake = await fakeOf();
    fake.fault = 'reset';
    await expectError(clientOf(fake.url).infer(DCN, feeds(), ['score'], true), 'BELFRY_MODEL_SERVER_FAILED', 'failed');
    expect(fake.failed).toBe(1);
    await fake.stop();
    const client = clientOf(fake.url);
    let failed = 0;
    for (let i = 0; i < 100; i++) await client.infer(DCN, feeds(), ['score'], true).catch(() => failed++);
    expect(failed).toBe(100);
    expect(client.retried).toBeGreaterThanOrEqual(10);
    expect(client.retried).toBeLessThanOrEqual(13);
  });

  it('gives a call no more than its own time', async () => {
    const fake = await fakeOf();
    fake.fault = 'hung';
    const started = performance.now();
    await expectError(
      clientOf(fake.url, { timeoutMs: 80 }).infer(DCN, feeds(), ['score'], true),
      'BELFRY_DEADLINE_EXCEEDED',
      'no answer to /v2/models/dcn-v2/infer',
    );
    expect(performance.now() - started).toBeLessThan(500);
    const stop = new AbortController();
    const stopped = clientOf(fake.url, { timeoutMs: 5000 }).infer(DCN, feeds(), ['score'], true, stop.signal);
    setTimeout(() => stop.abort(), 30);
    await expectError(stopped, 'BELFRY_DEADLINE_EXCEEDED', 'no answer');
  });

  it('has a bound on calls that wait', async () => {
    const fake = await fakeOf();
    fake.fault = 'hung';
    const client = clientOf(fake.url, { connections: 2, maxQueue: 3, timeoutMs: 200 });
    const results = await Promise.allSettled(
      Array.from({ length: 10 }, () => client.infer(DCN, feeds(), ['score'], true)),
    );
    const codes = results.map((result) =>
      result.status === 'rejected' ? (result.reason as { code: string }).code : 'ok',
    );
    expect(codes.filter((code) => code === 'BELFRY_OVERLOADED').length).toBe(5);
    expect(fake.connections).toBeLessThanOrEqual(2);
  });

  it('reads no more of an answer than its bound, announced or not', async () => {
    const fake = await fakeOf();
    const client = clientOf(fake.url, { maxResponseBytes: 1024 });
    await expectError(
      client.infer(DCN, feeds(1000), ['score'], true),
      'BELFRY_MODEL_OUTPUT_INVALID',
      'at most 1024 are read',
    );
    fake.fault = 'too large';
    await expectError(
      client.infer(DCN, feeds(), ['score'], true),
      'BELFRY_MODEL_OUTPUT_INVALID',
      'more than 1024 bytes',
    );
  });
});

describe('a reranker', () => {
  const options = (url: string) => ({
    name: 'dcn-v2',
    version: '0.9',
    server: { name: 'triton', url },
    address: DCN,
    inputs: { dense: { pack: [{ source: 'retrieval.score' }, { source: 'retrieval.rank' }] } },
    dims: 4,
    vocabularies: { file: async () => [], ids: () => [] },
  });

  it.each<[string, Partial<FakeOptions>, string, object]>([
    [
      'another width',
      { inputs: [{ name: 'dense', datatype: 'FP32', shape: [-1, 3] }] },
      'input dense: bound with width 2, the model wants float32 [N, 3]',
      {},
    ],
    [
      'an input more',
      { inputs: [...DENSE, { name: 'extra', datatype: 'INT64', shape: [-1, 1] }] },
      'input extra int64 [N, 1]: not bound',
      {},
    ],
    ['an input less', { inputs: [] }, 'input dense: bound, but the model has no such input', {}],
    [
      'an unknown datatype',
      { inputs: [{ name: 'dense', datatype: 'BF16', shape: [-1, 2] }] },
      'input dense: the model wants other, which no binding can feed',
      {},
    ],
    [
      'another output',
      { outputs: [{ name: 'logit', datatype: 'FP32', shape: [-1] }] },
      'output score is not in the graph, which has logit',
      { output: 'score' },
    ],
    [
      'another version',
      {},
      'version 7 is not on the server, which has 1',
      { address: { model: 'dcn-v2', version: '7' } },
    ],
    [
      'float16 without binary',
      { inputs: [{ name: 'dense', datatype: 'FP16', shape: [-1, 2] }], extensions: [] },
      'input dense is float16, which travels only as binary tensor data',
      {},
    ],
  ])(
    'M3 on a server: %s is told as a difference, and nothing is sent to it',
    async (name, fakeOptions, message, more) => {
      const fake = await fakeOf(fakeOptions);
      // A server that has the metadata of all its versions, but not the version.
      if (name === 'another version') fake.listsAnyVersion = true;
      const reranker = await KserveReranker.open({ ...options(fake.url), ...more });
      onTestFinished(() => reranker.close());
      expect(reranker.status.state).toBe('open');
      expect(reranker.status.problem).toMatchObject({
        code: 'BELFRY_BINDING_MISMATCH',
        message: expect.stringContaining(message),
      });
      expect(fake.infers).toBe(0);
    },
  );
});
