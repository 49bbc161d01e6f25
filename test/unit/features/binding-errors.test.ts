import { Value } from 'typebox/value';
import { describe, expect, it } from 'vitest';
import { type InputBindings, InputBindingSchema } from '../../../src/features/binding-schema.js';
import { readVocabularyFile } from '../../../src/features/vocabulary.js';
import type { TensorSpec } from '../../../src/types.js';
import { compile, spec } from '../../support/binding-fixtures.js';
import { expectError } from '../../support/expect-error.js';
import { fileWith } from '../../support/model-fixtures.js';

describe('bindings that do not fit (fault M3)', () => {
  it.each<[string, InputBindings, TensorSpec[], string]>([
    [
      'an input of another name',
      { y: { source: 'item.size' } },
      [spec('x', 'float32', null)],
      'input y: bound, but the model has no such input; it has x\n  - input x float32 [N]: not bound; add it under `inputs:` in registry.yaml',
    ],
    [
      'another dtype',
      { x: { dtype: 'int64', source: 'item.size' } },
      [spec('x', 'float32', null, 1)],
      'input x: bound as int64, the model wants float32 [N, 1]',
    ],
    [
      'a dtype that no binding feeds',
      { x: { source: 'item.size' } },
      [spec('x', 'uint8', null)],
      'input x: the model wants uint8, which no binding can feed; cast inside the graph',
    ],
    [
      'another width',
      { x: { pack: [{ source: 'item.size' }, { source: 'item.free' }] } },
      [spec('x', 'float32', null, 3)],
      'input x: bound with width 2, the model wants float32 [N, 3]',
    ],
    [
      'another rank',
      { x: { source: 'item.size' } },
      [spec('x', 'float32', null, 1, 1)],
      'input x: bound with width 1, the model wants float32 [N, 1, 1]',
    ],
    [
      'a list for a flat input',
      { x: { source: 'item.tags', width: 2, vocabulary: { values: ['x'] } } },
      [spec('x', 'float32', null)],
      'input x: bound with width 2, the model wants float32 [N]',
    ],
    [
      'no such column',
      { x: { source: 'item.sise' } },
      [spec('x', 'float32', null)],
      'input x, source item.sise: there is no such item column; columns: size, huge, long, free, section, tags, weights; set `missing:` if the model may run without it',
    ],
    [
      'strings without a vocabulary',
      { x: { source: 'item.section' } },
      [spec('x', 'float32', null)],
      'column section of features/items.parquet does not fit: it holds strings, so it needs a vocabulary',
    ],
    [
      'a scalar column with a width',
      { x: { source: 'item.size', width: 3 } },
      [spec('x', 'float32', null, 3)],
      'column size of features/items.parquet does not fit: it is a number column, and width 3 needs a list',
    ],
    [
      'fractions in an integer input',
      { x: { source: 'item.size' } },
      [spec('x', 'int64', null)],
      'does not fit: it holds 2.5, and the input takes whole numbers',
    ],
    [
      'a number that would become infinite',
      { x: { source: 'item.huge' } },
      [spec('x', 'float32', null)],
      'does not fit: it holds 1e+39, and the input takes numbers within ±3.4028234663852886e+38',
    ],
    [
      'a number that would wrap around',
      { x: { source: 'item.long' } },
      [spec('x', 'int32', null)],
      'does not fit: it holds 3000000000, and the input takes numbers within ±2147483647',
    ],
    [
      'an input that every object inherits',
      { x: { source: 'item.size' } },
      [spec('x', 'float32', null), spec('constructor', 'float32', null)],
      'input constructor float32 [N]: not bound; add it under `inputs:` in registry.yaml',
    ],
    [
      'offsets of another number of bags',
      {
        x: { offsets_of: ['bag'] },
        bag: { layout: 'bag', source: 'item.section', vocabulary: { file: 'sections.txt' } },
      },
      [spec('x', 'int64', 2, null), spec('bag', 'int64', null)],
      'input x: offsets_of names 1 bags, the model wants int64 [2, N]',
    ],
    [
      'a constant without a value',
      { x: { source: 'constant' } },
      [spec('x', 'float32', null)],
      'source constant: needs `value`',
    ],
    [
      'a value that is no constant',
      { x: { source: 'item.size', value: 1 } },
      [spec('x', 'float32', null)],
      '`value` belongs to `source: constant`',
    ],
    [
      'an embedding of other dims',
      { x: { source: 'item_embedding', width: 3 } },
      [spec('x', 'float32', null, 3)],
      'source item_embedding: has 2 dims, bound with width 3',
    ],
    [
      'a vocabulary for a number',
      { x: { source: 'retrieval.score', vocabulary: { ids: 'items' } } },
      [spec('x', 'float32', null)],
      'is a number, so it takes no vocabulary',
    ],
    [
      'indices that float16 cannot hold',
      { x: { source: 'item.section', vocabulary: { file: 'sections.txt' }, offset: 5000 } },
      [spec('x', 'float16', null)],
      'index 5001 is not exact in float16 (up to 2048)',
    ],
    [
      'a vocabulary with a word twice',
      { x: { source: 'item.tags', vocabulary: { file: 'twice.txt' } } },
      [spec('x', 'float32', null)],
      'twice.txt: "x" stands at position 0 and at 3; each word must be there once',
    ],
  ])('%s', async (_, inputs, model, message) => {
    const error = await expectError(compile(inputs, model), 'BELFRY_BINDING_MISMATCH', message);
    if (!message.includes('twice.txt'))
      expect(error.message).toMatch(/^model m@1 does not fit its binding:\n {2}- input /);
  });

  it('tells all of them at once', async () => {
    const error = await expectError(
      compile({ a: { source: 'item.nope' }, b: { dtype: 'int32', source: 'item.size' } }, [
        spec('a', 'float32', null),
        spec('b', 'float32', null),
        spec('c', 'int64', null, 2),
      ]),
      'BELFRY_BINDING_MISMATCH',
      'm@1',
    );
    expect(error.message.split('\n  - ').length).toBe(4);
  });

  it('reads vocabulary files line by line', async () => {
    const path = fileWith('words.txt', 'net\r\nweb\n\nmail\n');
    expect(await readVocabularyFile(path, 'words.txt')).toEqual(['net', 'web', '', 'mail']);
    await expectError(
      readVocabularyFile(fileWith('bad.txt', Uint8Array.from([0xff, 0xfe])), 'bad.txt'),
      'BELFRY_FILE_UNREADABLE',
      'vocabulary bad.txt: ',
    );
    await expectError(
      readVocabularyFile('/nonexistent/words.txt', 'words.txt'),
      'BELFRY_FILE_UNREADABLE',
      'vocabulary words.txt: ENOENT',
    );
  });
});

describe('the form of a binding in registry.yaml', () => {
  it.each<[boolean, unknown]>([
    [
      true,
      {
        x: {
          source: 'user.history',
          width: 32,
          vocabulary: { file: 'words.txt' },
          offset: 1,
          oov: 'skip',
          pad: 0,
          truncate: 'last',
        },
      },
    ],
    [true, { x: { dtype: 'int64', pack: [{ source: 'retrieval.rank' }, { source: 'constant', value: 1 }] } }],
    [
      true,
      {
        indices: { layout: 'bag', source: 'item.tags', width: 9 },
        offsets: { dtype: 'int64', offsets_of: ['indices'] },
      },
    ],
    [false, { x: { source: 'nobody.age' } }],
    [false, { x: { source: 'retrieval.place' } }],
    [false, { x: { source: 'item.size', witdh: 3 } }],
    [false, { x: { source: 'item.size', width: 0 } }],
    [false, { x: { source: 'item.size', oov: 'drop' } }],
    [false, { x: { dtype: 'int8', source: 'item.size' } }],
    [false, { x: { pack: [] } }],
    [false, { x: { pack: [{ source: 'item.a' }], source: 'item.b' } }],
    [false, { x: { source: 'item.a', vocabulary: { file: 'a', ids: 'items' } } }],
  ])('%j %j', (isFine, value) => {
    expect(Value.Check(InputBindingSchema, value)).toBe(isFine);
  });
});
