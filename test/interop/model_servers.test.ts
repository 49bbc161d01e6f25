/** Rerankers on real model servers: Triton with the sample's TorchScript model, KServe's server with its ONNX one. */
import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { request } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { encodeRequest } from '../../src/rerank/kserve/infer-frames.js';
import type { TensorData } from '../../src/types.js';
import {
  dcnInputs,
  echoInputs,
  type Exchange,
  readRecorded,
  RECORDED_FILE,
  type Recorded,
} from '../support/kserve-recorded.js';
import { SAMPLE, temporaryFolder } from '../support/folders.js';
import { type Service, startService } from '../support/service.js';
import {
  hasTorch,
  type ModelServerProcess,
  startKserve,
  startTriton,
  torchScores,
  torchScoresOf,
} from './model-servers.js';

const RECORDS = process.env.BELFRY_RECORD === '1';
/** The first time, packages are installed. */
const INSTALL_MS = 400_000;

/** The sample, and its DLRM twice more: on KServe's server in JSON, and in binary. */
function sampleWithServers(): string {
  const folder = temporaryFolder({ keep: true });
  cpSync(SAMPLE, folder, { recursive: true });
  const file = join(folder, 'registry.yaml');
  const registry = parse(readFileSync(file, 'utf8')) as { models: Record<string, unknown>[] };
  const dlrm = registry.models.find(({ model }) => model === 'DLRM');
  for (const name of ['json', 'binary'])
    registry.models.push({ ...dlrm, model: `dlrm-${name}`, server: { name, model: 'dlrm' } });
  writeFileSync(file, stringify(registry));
  return folder;
}

function inferRequest(
  model: string,
  inputs: Readonly<Record<string, TensorData>>,
  outputs: readonly string[],
): Omit<Exchange, 'answer'> {
  const { headers, body } = encodeRequest('1', inputs, outputs, true);
  return { method: 'POST', path: `/v2/models/${model}/infer`, headers, body: Buffer.from(body).toString('base64') };
}

describe.skipIf(!hasTorch())('real model servers', () => {
  let models: string;
  let triton: ModelServerProcess;
  let kserve: ModelServerProcess;
  let service: Service;
  beforeAll(async () => {
    models = sampleWithServers();
    [triton, kserve] = await Promise.all([startTriton(), startKserve()]);
    const timeoutMs = 2000; // A busy machine is no outage.
    service = await startService(models, {
      load: {
        modelServers: [
          { name: 'default', url: triton.url, timeoutMs },
          { name: 'json', url: kserve.url, tensors: 'json', timeoutMs },
          { name: 'binary', url: kserve.url, tensors: 'binary', timeoutMs },
        ],
      },
    });
  }, INSTALL_MS);
  afterAll(async () => {
    await service?.close();
    await Promise.all([triton?.stop(), kserve?.stop()]);
    rmSync(models, { recursive: true, force: true });
  });

  async function reranked(user: string, rerank: string, candidates = 500) {
    const response = await service.post('/retrieve', { user_id: user, k: candidates, candidates, rerank });
    expect(response.statusCode, response.body).toBe(200);
    return response.json() as {
      items: { id: string; score: number; retrieval_rank: number }[];
      degraded: string[];
      models: { reranker?: string };
    };
  }
  const scorers = async () => JSON.stringify((await service.app.inject('/readyz')).json().scorers);

  it.each(['gimp', 'postgresql-15'])('%s: the scores of DCN-v2 on Triton are those of PyTorch', async (user) => {
    const expected = await torchScores(user, 500, models);
    const answer = await reranked(user, 'dcn-v2');
    expect(answer, await scorers()).toMatchObject({ degraded: [], models: { reranker: 'dcn-v2@0.9' } });
    let compared = 0;
    for (const { id, score, retrieval_rank } of answer.items) {
      // Two items of one retrieval score may stand in either order, and the rank is a feature.
      if (expected.ids[retrieval_rank - 1] !== id) continue;
      compared++;
      expect(Math.abs(score - expected.scores[retrieval_rank - 1]!)).toBeLessThan(1e-4);
    }
    expect(compared).toBeGreaterThan(450);
    const scores = answer.items.map(({ score }) => score);
    expect(scores).toEqual([...scores].sort((a, b) => b - a));
  });

  it('Triton answers byte for byte as recorded (BELFRY_RECORD=1 records again)', async () => {
    const asked: Omit<Exchange, 'answer'>[] = [
      { method: 'GET', path: '/v2', headers: {} },
      { method: 'GET', path: '/v2/models/dcn-v2', headers: {} },
      { method: 'GET', path: '/v2/models/echo', headers: {} },
      inferRequest('dcn-v2', dcnInputs(), ['score']),
      inferRequest(
        'echo',
        echoInputs(),
        Object.keys(echoInputs()).map((name) => `${name}_out`),
      ),
    ];
    const exchanges: Exchange[] = [];
    for (const one of asked) {
      const body = one.body === undefined ? {} : { body: Buffer.from(one.body, 'base64') };
      const answer = await request(triton.url + one.path, {
        method: one.method as 'GET',
        headers: one.headers,
        ...body,
      });
      exchanges.push({
        ...one,
        answer: {
          status: answer.statusCode,
          headers: answer.headers as Record<string, string>,
          body: Buffer.from(await answer.body.arrayBuffer()).toString('base64'),
        },
      });
    }
    if (RECORDS) {
      const scores = await torchScoresOf(dcnInputs(), models);
      const server = 'Triton 2.51.0 of nvidia-pytriton 0.7.0';
      writeFileSync(RECORDED_FILE, `${JSON.stringify({ server, exchanges, scores } satisfies Recorded, null, 2)}\n`);
    }
    const recorded = readRecorded();
    expect(exchanges.length).toBe(recorded.exchanges.length);
    for (const [at, exchange] of exchanges.entries()) {
      const wanted = recorded.exchanges[at]!;
      // Of a sum of floats another CPU may have another last bit.
      const isScored = wanted.path === '/v2/models/dcn-v2/infer';
      const bytes = ({ answer }: Exchange) => Buffer.from(answer.body, 'base64').subarray(0, isScored ? -8 : undefined);
      expect(bytes(exchange).equals(bytes(wanted)), wanted.path).toBe(true);
      expect({ ...exchange, answer: { ...exchange.answer, body: '' } }).toEqual({
        ...wanted,
        answer: { ...wanted.answer, body: '' },
      });
    }
  });

  it.each(['json', 'binary'])('the scores of the DLRM on KServe, in %s, are those in process', async (name) => {
    const here = await reranked('gimp', 'dlrm', 100);
    const there = await reranked('gimp', `dlrm-${name}`, 100);
    expect(there, await scorers()).toMatchObject({ degraded: [], models: { reranker: `dlrm-${name}@1.0` } });
    const scores = new Map(here.items.map(({ id, score }) => [id, score]));
    for (const { id, score } of there.items) expect(Math.abs(score - scores.get(id)!)).toBeLessThan(1e-4);
  });

  it('S2: goes on without Triton, and with it again', async () => {
    await triton.kill();
    expect((await reranked('gimp', 'dcn-v2')).degraded).toEqual(['rerank_skipped']);
    triton = await startTriton(Number(new URL(triton.url).port));
    for (let tries = 0; (await reranked('gimp', 'dcn-v2')).degraded.length > 0; tries++) {
      if (tries > 100) throw new Error(`it did not come back: ${await scorers()}`);
      await sleep(100);
    }
  });
});
