/** The whole path against Python: the same candidates, and the DLRM's scores of Python onnxruntime. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SAMPLE } from '../support/folders.js';
import { type Service, startService } from '../support/service.js';
import { hasPython, runPython } from './python.js';

describe.skipIf(!hasPython)('re-ranking against Python', () => {
  let service: Service;
  beforeAll(async () => {
    service = await startService(SAMPLE);
  });
  afterAll(() => service.close());

  it.each(['gimp', 'postgresql-15', 'vlc'])('%s: retrieval order and DLRM scores agree', async (user) => {
    const expected = JSON.parse(await runPython('rerank.py', [SAMPLE, user, '500']));
    const response = await service.post('/retrieve', { user_id: user, k: 500, candidates: 500, rerank: true });
    const answer = response.json();
    expect(answer.degraded).toEqual([]);
    const byRetrieval = [...answer.items].sort((a, b) => a.retrieval_rank - b.retrieval_rank);
    let worst = 0;
    for (const [at, item] of byRetrieval.entries()) {
      expect(item.retrieval_score).toBeCloseTo(expected.retrieval_scores[at], 3);
      // Two items of one score may stand in either order.
      const same = expected.item_ids.indexOf(item.id);
      expect(expected.retrieval_scores[same]).toBeCloseTo(item.retrieval_score, 3);
      if (same === at)
        worst = Math.max(worst, Math.abs(item.score - expected.scores[at]) / Math.max(1, Math.abs(item.score)));
    }
    expect(worst).toBeLessThan(1e-4);
    const order = (ids: string[], scores: number[]) =>
      ids
        .map((id, at) => [id, scores[at]!] as const)
        .sort((a, b) => b[1] - a[1])
        .slice(0, 10)
        .map(([id]) => id);
    expect(answer.items.slice(0, 10).map(({ id }: { id: string }) => id)).toEqual(
      order(expected.item_ids, expected.scores),
    );
  });
});
