/** S1: whatever a reranker does, the caller gets an answer in time, and is told. */
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { makeModelsFolder, randomValues, temporaryFolder } from '../support/folders.js';
import { type Service, startService } from '../support/service.js';

const DIMS = 8;
/** What it does is chosen by the id of the user. */
const MODULE = `
export async function rerank(request, candidates, signal) {
  switch (request.userId) {
    case 0: return candidates.map((candidate) => candidate.rank);
    case 1: return new Promise(() => {});
    case 2: throw new Error('the scorer is broken');
    case 3: return candidates.map(() => NaN);
    case 4: return [1, 2];
    case 5: return candidates.map((candidate, at) => (at % 2 === 0 ? NaN : candidate.rank));
    case 6: throw { not: 'an error' };
    default: return candidates.map(() => 0);
  }
}`;

let folder: string;
let service: Service;
beforeAll(async () => {
  folder = temporaryFolder({ keep: true });
  const rerankModule = join(folder, 'rerank.mjs');
  writeFileSync(rerankModule, MODULE);
  makeModelsFolder(folder, {
    items: { data: randomValues(100 * DIMS, 1), dims: DIMS },
    users: { data: randomValues(10 * DIMS, 2), dims: DIMS },
  });
  service = await startService(folder, { load: { rerankModule } });
});
afterAll(async () => {
  await service.close();
  rmSync(folder, { recursive: true, force: true });
});

async function ask(user_id: number, rerank: boolean, timeout_ms = 1000) {
  const started = performance.now();
  const response = await service.post('/retrieve', { user_id, k: 5, candidates: 6, rerank, timeout_ms });
  expect(response.statusCode, response.body).toBe(200);
  const answer = response.json();
  return { ...answer, ids: answer.items.map(({ id }: { id: number }) => id), tookMs: performance.now() - started };
}

describe('a reranker', () => {
  // Five failures in a row would open its circuit.
  beforeEach(async () => void (await ask(0, true)));

  it('orders by its scores', async () => {
    const answer = await ask(0, true);
    expect(answer.models.reranker).toBe('module@0');
    expect(answer.items.map(({ retrieval_rank }: { retrieval_rank: number }) => retrieval_rank)).toEqual([
      6, 5, 4, 3, 2,
    ]);
    expect(answer.items[0].score).toBe(6);
  });

  it.each([
    [1, 'never answers', 'rerank_timeout'],
    [2, 'throws', 'rerank_skipped'],
    [4, 'returns too few scores', 'rerank_skipped'],
    [6, 'throws what is no error', 'rerank_skipped'],
  ])('user %i: one that %s leaves retrieval order: %s', async (user, _, reason) => {
    const plain = await ask(user, false);
    const answer = await ask(user, true, user === 1 ? 200 : 1000);
    expect(answer.degraded).toEqual([reason]);
    expect(answer.ids).toEqual(plain.ids);
    expect(answer.models.reranker).toBeUndefined();
    expect(answer.items.map(({ score }: { score: number }) => score)).toEqual(
      plain.items.map(({ score }: { score: number }) => score),
    );
  });

  it('one that never answers costs the deadline and no more', async () => {
    const answer = await ask(1, true, 300);
    expect(answer.tookMs).toBeGreaterThan(250);
    expect(answer.tookMs).toBeLessThan(900); // the deadline, and a busy machine
  });

  it('scores that are not finite keep retrieval order, after those that are, and are counted', async () => {
    const none = await ask(3, true);
    expect([none.degraded, none.ids]).toEqual([['rerank_scores_invalid'], (await ask(3, false)).ids]);
    const half = await ask(5, true);
    expect(half.degraded).toEqual(['rerank_scores_invalid']);
    expect(half.items.map(({ retrieval_rank }: { retrieval_rank: number }) => retrieval_rank)).toEqual([6, 4, 2, 1, 3]);
    const metrics = (await service.app.inject({ method: 'GET', url: '/metrics' })).body;
    expect(metrics).toMatch(/belfry_rerank_invalid_scores_total\{reranker="module@0"\} 9/);
    expect(metrics).toMatch(/belfry_degraded_total\{reason="rerank_timeout"\} \d/);
  });
});
