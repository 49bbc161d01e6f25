import { expect, it } from 'vitest';
import { IdMap } from '../../../src/ann/ids.js';
import type { Generation } from '../../../src/generation/generation.js';
import { suggestIds } from '../../../src/retrieval/describe.js';

const generation = { itemIds: IdMap.ofRows(1_500_000) } as unknown as Generation;

it('suggests the whole id first, wherever it stands, and lets the event loop turn', async () => {
  let turns = 0;
  const counting = setInterval(() => turns++, 0);
  expect(await suggestIds('items', '1400000', 3, generation)).toEqual([1_400_000]);
  clearInterval(counting);
  expect(turns).toBeGreaterThan(1);
  expect(await suggestIds('items', '77', 4, generation)).toEqual([77, 770, 771, 772]);
  expect(await suggestIds('users', '77', 4, generation)).toEqual([]);
});
