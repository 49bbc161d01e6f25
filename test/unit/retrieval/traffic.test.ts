/** Who gets which reranker: shares, stability, stages, overrides. */
import { describe, expect, it } from 'vitest';
import type { Generation } from '../../../src/generation/generation.js';
import { bucketOf, TrafficPolicy, type Wanted } from '../../../src/retrieval/traffic.js';
import { expectError } from '../../support/expect-error.js';

type Row = readonly [label: string, stage: string, share?: number];

/** As far as the policy reads a generation. */
function generationOf(rows: readonly Row[], problems: string[] = []): Generation {
  const named = rows.map(([label, stage, share]) => {
    const [name, version] = label.split('@') as [string, string];
    return { name, version, stage, ...(share === undefined ? {} : { share }) };
  });
  return {
    id: 'g',
    rerankers: named.map(({ name, version }) => ({ name, version })),
    rerankerProblems: problems,
    manifest: { models: named },
  } as unknown as Generation;
}
const choose = (rows: readonly Row[], wanted: Partial<Wanted> = {}, policy = new TrafficPolicy()) =>
  policy.choose({ rerank: true, ...wanted }, generationOf(rows));

describe('buckets', () => {
  it('are what any program makes of SHA-256: the same in every process', () => {
    // python3 -c 'import hashlib; print(int(hashlib.sha256(b"belfry:gimp").hexdigest()[:12], 16) / 2**48)'
    expect(bucketOf('gimp', 'belfry')).toBe(0.32831933422669124);
    expect(bucketOf(42, 'belfry')).toBe(0.7907215755410277);
    expect(bucketOf('42', 'belfry')).toBe(0.7907215755410277);
    expect(bucketOf(42, 'other')).toBe(0.7330616383207165);
  });
});

describe('shares', () => {
  const rows: Row[] = [
    ['main@1', 'production'],
    ['a@1', 'ab-test', 0.2],
    ['b@2', 'ab-test', 0.05],
  ];

  it('of 100,000 users are those of the registry, and a user stays where he is', () => {
    const policy = new TrafficPolicy();
    const generation = generationOf(rows);
    const counts: Record<string, number> = {};
    const USERS = 100_000;
    for (let user = 0; user < USERS; user++) {
      const { exposure } = policy.choose({ rerank: true, userId: `user-${user}` }, generation);
      counts[exposure!.variant] = (counts[exposure!.variant] ?? 0) + 1;
    }
    // Four standard deviations of a binomial.
    for (const [variant, share] of [
      ['a@1', 0.2],
      ['b@2', 0.05],
      ['main@1', 0.75],
    ] as const)
      expect(Math.abs(counts[variant]! - USERS * share)).toBeLessThan(4 * Math.sqrt(USERS * share * (1 - share)));
    // Another policy, another generation of the same registry: as after a restart and a rebuild.
    const again = generationOf(rows);
    for (let user = 0; user < 1000; user++) {
      const wanted = { rerank: true, userId: `user-${user}` };
      expect(new TrafficPolicy().choose(wanted, again).exposure).toEqual(policy.choose(wanted, generation).exposure);
    }
  });

  it('another salt is another experiment: its variants are spread alike over the old ones', () => {
    const [old, next] = [new TrafficPolicy(), new TrafficPolicy({ salt: 'second' })];
    const half = generationOf([['a@1', 'ab-test', 0.5]]);
    let both = 0;
    for (let user = 0; user < 20_000; user++)
      if ([old, next].every((one) => one.choose({ rerank: true, userId: user }, half).exposure!.variant === 'a@1'))
        both++;
    expect(Math.abs(both - 5000)).toBeLessThan(4 * Math.sqrt(20_000 * 0.25 * 0.75));
  });

  it('settings go before the registry, by name or name@version, and are then the whole truth', () => {
    const all = new TrafficPolicy({ salt: 'belfry', shares: { b: 1 } });
    for (let user = 0; user < 50; user++)
      expect(choose(rows, { userId: user }, all).exposure).toMatchObject({ variant: 'b@2', reason: 'ab-test' });
    const none = new TrafficPolicy({ salt: 'belfry', shares: {} });
    expect(choose(rows, { userId: 1 }, none).exposure).toMatchObject({ variant: 'main@1', reason: 'control' });
    const exact = new TrafficPolicy({ salt: 'belfry', shares: { 'a@1': 1, a: 0 } });
    expect(choose(rows, { userId: 1 }, exact).exposure).toMatchObject({ variant: 'a@1' });
  });

  it('thirds leave nobody over', () => {
    const thirds: Row[] = [1, 2, 3].map((version) => [`t@${version}`, 'ab-test', 1 / 3]);
    for (let user = 0; user < 2000; user++) expect(choose(thirds, { userId: user }).reranker).toBeDefined();
  });
});

describe('stages', () => {
  it('no re-ranking was asked for: no variant, no shadow', () => {
    expect(
      choose(
        [
          ['s@1', 'shadow'],
          ['m@1', 'production'],
        ],
        { rerank: false },
      ),
    ).toEqual({ shadows: [] });
  });

  it('production alone', () => {
    expect(choose([['m@1', 'production']], { userId: 1 }).exposure).toEqual({ variant: 'm@1', reason: 'production' });
  });

  it('a test alone, without a share, has all users, also those without an id', () => {
    expect(choose([['dlrm@1.0', 'ab-test']], { userId: 1 }).exposure).toMatchObject({
      variant: 'dlrm@1.0',
      reason: 'ab-test',
    });
    expect(choose([['dlrm@1.0', 'ab-test']]).exposure).toEqual({ variant: 'dlrm@1.0', reason: 'no_user' });
  });

  it('a test alone, with a share: the others keep retrieval order', () => {
    const control = Array.from({ length: 100 }, (_, user) =>
      choose([['t@1', 'ab-test', 0.5]], { userId: user }),
    ).filter(({ reranker }) => reranker === undefined);
    expect(control.length).toBeGreaterThan(25);
    expect(control.length).toBeLessThan(75);
    expect(control[0]!.exposure).toMatchObject({ variant: 'control', reason: 'control' });
    expect(control[0]!.exposure!.bucket).toBeGreaterThanOrEqual(0.5);
  });

  it('who has no id is outside the experiment', () => {
    const rows: Row[] = [
      ['m@1', 'production'],
      ['t@1', 'ab-test', 0.9],
    ];
    expect(choose(rows).exposure).toEqual({ variant: 'm@1', reason: 'no_user' });
  });

  it('shadows never order, and score beside', () => {
    const only = choose([['s@1', 'shadow']], { userId: 1 });
    expect(only.reranker).toBeUndefined();
    expect(only.exposure).toEqual({ variant: 'control', reason: 'control' });
    expect(only.shadows).toMatchObject([{ name: 's' }]);
    // Asked for by name it does, and is no shadow of itself.
    const named = choose(
      [
        ['s@1', 'shadow'],
        ['r@1', 'shadow'],
      ],
      { rerank: 's' },
    );
    expect(named.exposure).toEqual({ variant: 's@1', reason: 'named' });
    expect(named.shadows).toMatchObject([{ name: 'r' }]);
  });

  it('a reranker in code serves', () => {
    const generation = generationOf([]);
    Object.assign(generation, { rerankers: [{ name: 'module', version: '0' }] });
    expect(new TrafficPolicy().choose({ rerank: true }, generation).exposure).toEqual({
      variant: 'module@0',
      reason: 'production',
    });
  });
});

describe('overrides', () => {
  const rows: Row[] = [
    ['m@1', 'production'],
    ['t@1', 'ab-test', 0],
    ['t@2', 'ab-test', 0],
  ];

  it.each([
    ['control', 'm@1'],
    ['t', 't@1'],
    ['t@2', 't@2'],
    ['m', 'm@1'],
  ])('%s gives %s', (variant, expected) => {
    expect(choose(rows, { variant, userId: 1 }).exposure).toEqual({ variant: expected, reason: 'override' });
  });

  it('a name in the body goes before the header', () => {
    expect(choose(rows, { rerank: 't@2', variant: 'm' }).exposure).toEqual({ variant: 't@2', reason: 'named' });
  });

  it('what is unknown is refused, with what there is and what is missing', async () => {
    await expectError(
      () => choose(rows, { variant: 'x' }),
      'BELFRY_UNKNOWN_RERANKER',
      'x-belfry-variant: expected control or one of m@1, t@1, t@2, received "x"',
    );
    await expectError(
      () => new TrafficPolicy().choose({ rerank: 't@3' }, generationOf(rows, ['u@1: no server runs it'])),
      'BELFRY_UNKNOWN_RERANKER',
      'rerank: expected true or one of m@1, t@1, t@2, received "t@3"; u@1: no server runs it',
    );
    await expectError(
      () => choose([]),
      'BELFRY_NO_RERANKER',
      'rerank: generation g has no reranker: its registry names none',
    );
  });
});
