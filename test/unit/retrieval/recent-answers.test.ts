import { describe, expect, it } from 'vitest';
import { RecentAnswers } from '../../../src/retrieval/recent-answers.js';
import { fillRetrieve, type RetrieveRequest, type RetrieveResponse } from '../../../src/retrieval/request.js';
import type { ItemView } from '../../../src/upserts/item-view.js';

const viewAt = (state: string) => ({ generation: { id: 'g1' }, state }) as ItemView;
const of = (id: number): RetrieveRequest => fillRetrieve({ source: { kind: 'user', id } });
const answer = (items: number): RetrieveResponse => ({
  items: Array.from({ length: items }, (_, id) => ({ id, score: 1, retrieval_score: 1, retrieval_rank: id + 1 })),
  generation: 'g1',
  models: {},
  degraded: [],
  returned: items,
  timings: { total: 0 },
});

describe('recent answers', () => {
  it('are bounded, those without items too; the oldest go first', () => {
    const recent = new RecentAnswers(100);
    const view = viewAt('1:0');
    for (let user = 0; user < 1000; user++) recent.keep(of(user), view, answer(0));
    expect(recent.size).toBe(100);
    expect(recent.find(of(899), view)).toBeUndefined();
    expect(recent.find(of(999), view)).toMatchObject({ degraded: ['cached'], items: [] });
    recent.keep(of(1), view, answer(99));
    expect(recent.size).toBe(1);
    recent.keep(of(1), view, answer(9));
    for (let user = 2; user < 11; user++) recent.keep(of(user), view, answer(9));
    expect(recent.size).toBe(10);
    recent.keep(of(11), view, answer(100));
    expect(recent.find(of(11), view)).toBeUndefined();
    expect(recent.size).toBe(10);
  });

  it('are of one state of the items', () => {
    const recent = new RecentAnswers(100);
    recent.keep(of(1), viewAt('1:5'), answer(3));
    expect(recent.find(of(1), viewAt('1:5'))).toBeDefined();
    expect(recent.find(of(1), viewAt('1:6'))).toBeUndefined();
    expect(recent.find(of(1), viewAt('2:5'))).toBeUndefined();
  });
});
