import { describe, expect, it } from 'vitest';
import type { Generation } from '../../../src/generation/generation.js';
import { GenerationStore } from '../../../src/generation/store.js';
import { expectError } from '../../support/expect-error.js';

function fake(id: string): Generation & { closed: boolean } {
  const generation = {
    id,
    closed: false,
    async close() {
      generation.closed = true;
    },
  };
  return generation as unknown as Generation & { closed: boolean };
}

describe('generation store', () => {
  it('lets a request finish on the generation it began with', async () => {
    const [one, two] = [fake('1'), fake('2')];
    const store = new GenerationStore(one);
    let release: () => void = () => undefined;
    const slow = store.use(async (generation) => {
      await new Promise<void>((resolve) => {
        release = resolve;
      });
      expect(one.closed).toBe(false);
      return generation.id;
    });
    store.swap(two);
    expect(await store.use(async (generation) => generation.id)).toBe('2');
    expect(one.closed).toBe(false);
    release();
    expect(await slow).toBe('1');
    await new Promise(setImmediate);
    expect(one.closed).toBe(true);
    expect(two.closed).toBe(false);
  });

  it('closes at once what nobody uses, waits for what somebody does, then is not ready', async () => {
    const one = fake('1');
    const store = new GenerationStore(one);
    let release: () => void = () => undefined;
    const slow = store.use(
      () =>
        new Promise<void>((resolve) => {
          release = resolve;
        }),
    );
    const closing = store.close();
    await new Promise(setImmediate);
    expect(one.closed).toBe(false);
    await expectError(
      () => store.use(async () => 1),
      'BELFRY_NOT_READY',
      'no generation is serving; try again in a few seconds',
    );
    release();
    await Promise.all([slow, closing]);
    expect(one.closed).toBe(true);
  });

  it('a generation that cannot be closed does not end the process, but fails close', async () => {
    const stuck = { id: '1', close: () => Promise.reject(new Error('stuck')) } as unknown as Generation;
    const unhandled: unknown[] = [];
    const hear = (reason: unknown) => unhandled.push(reason);
    process.on('unhandledRejection', hear);
    const store = new GenerationStore(stuck);
    store.swap(fake('2'));
    await new Promise((resolve) => setTimeout(resolve, 10));
    process.off('unhandledRejection', hear);
    expect(unhandled).toEqual([]);
    expect(await store.use(async (generation) => generation.id)).toBe('2');
    const again = new GenerationStore(stuck);
    await expect(again.close()).rejects.toThrow('stuck');
  });

  it('frees the lease of a request that fails', async () => {
    const one = fake('1');
    const store = new GenerationStore(one);
    await expect(store.use(() => Promise.reject(new Error('boom')))).rejects.toThrow('boom');
    store.swap(fake('2'));
    await new Promise(setImmediate);
    expect(one.closed).toBe(true);
  });
});
