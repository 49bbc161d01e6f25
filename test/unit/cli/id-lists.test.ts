/** Ids on the command line: which text is which id, and what is no list of ids. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { readIds } from '../../../src/cli/id-lists.js';
import { expectError } from '../../support/expect-error.js';
import { temporaryFolder } from '../../support/folders.js';

let folder: string;
beforeEach(() => {
  folder = temporaryFolder();
});
function file(name: string, content: string): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

describe('ids', () => {
  it('with commas between, in a .txt, in a .json', async () => {
    expect(await readIds('exclude', 'gimp, vim', 'string')).toEqual(['gimp', 'vim']);
    expect(await readIds('exclude', '7,42', 'string')).toEqual(['7', '42']);
    expect(await readIds('exclude', '7,42', 'integer')).toEqual([7, 42]);
    expect(await readIds('users', file('a.txt', 'gimp\nvim\n'), 'string')).toEqual(['gimp', 'vim']);
    expect(await readIds('users', file('b.txt', '7\r\n42'), 'row')).toEqual([7, 42]);
    expect(await readIds('users', file('list', '7'), 'row')).toEqual([7]);
    expect(await readIds('users', file('c.json', '["7", 42]'), 'integer')).toEqual(['7', 42]);
  });

  it.each([
    ['gimp', 'users.0: expected an integer id from 0 to 9007199254740991 (ids of this generation are integers)'],
    ['9007199254740993', 'users.0: expected an integer id from 0 to 9007199254740991'],
    ['1,,2', 'users.1: expected an id, received ""'],
  ])('%s is refused', async (text, message) => {
    await expectError(readIds('users', text, 'integer'), 'BELFRY_INVALID_ARGUMENT', message);
  });

  it.each([
    ['bad.json', '[1,', 'BELFRY_INVALID_ARGUMENT', /users: .*bad\.json is not JSON \(/],
    [
      'object.json',
      '{"a":1}',
      'BELFRY_INVALID_ARGUMENT',
      /users: expected a list of ids in .*object\.json, received \{"a":1\}/,
    ],
    [
      'mixed.json',
      '[1, 1.5]',
      'BELFRY_INVALID_ARGUMENT',
      /users: expected strings or integers in .*mixed\.json, received "1\.5 in place 1"/,
    ],
    ['gap.txt', 'a\n\nb\n', 'BELFRY_INVALID_ID', /gap\.txt: line 2: expected 1 to 256 characters, received 0/],
    ['words.txt', '1\ntwo\n', 'BELFRY_INVALID_ARGUMENT', /users: .*words\.txt: line 2: expected an integer id/],
  ] as const)('%s: %j', async (name, content, code, message) => {
    await expectError(readIds('users', file(name, content), 'integer'), code, message);
  });
});
