/** `belfry generations`, `belfry rollback`, `belfry verify` as people and scripts run them. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { DataFolder } from '../../src/generation/data-folder.js';
import { temporaryFolder } from '../support/folders.js';
import { publishTiny } from '../support/tiny-generation.js';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

function belfry(...words: string[]): { status: number | null; out: string; error: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...words], {
    encoding: 'utf8',
    cwd: temporaryFolder(),
  });
  return { status, out: stdout, error: stderr };
}

describe('the generations of a data folder', () => {
  it('are listed, rolled back and verified', { timeout: 60_000 }, async () => {
    const data = await DataFolder.open(temporaryFolder());
    const at = ['--data', data.path];
    expect(belfry('generations', ...at)).toMatchObject({
      status: 0,
      out: expect.stringMatching(/holds no generation/),
    });
    for (const id of ['a', 'b', 'c']) await publishTiny(data, id);
    const listed = belfry('generations', ...at).out.split('\n');
    expect(listed[0]).toMatch(/^generation +state +created +items +size +problem$/);
    expect(listed[1]).toMatch(/^c +serving +1970-01-01T00:00:00\.000Z +1 +[0-9.]+ KB$/);
    expect(listed[2]).toMatch(/^b +previous /);

    expect(belfry('rollback', ...at)).toMatchObject({
      status: 0,
      out: 'generation b serves (1 items, built 1970-01-01T00:00:00.000Z), before it c\n',
    });
    expect(JSON.parse(belfry('rollback', 'c', ...at, '--json').out)).toEqual({
      data: data.path,
      before: 'b',
      serving: 'c',
    });
    expect(belfry('rollback', 'c', ...at).out).toBe('generation c serves already\n');
    expect(belfry('rollback', '../c', ...at)).toMatchObject({
      status: 1,
      error: `error ${data.path} holds no generation ../c (BELFRY_UNKNOWN_GENERATION)\n`,
    });

    expect(belfry('verify', ...at)).toMatchObject({ status: 0, out: expect.stringMatching(/^c +good\nb +good$/m) });
    writeFileSync(join(data.folderOf('b'), 'items.npy'), 'vectorz');
    const { status, out } = belfry('verify', ...at, '--json');
    expect(status).toBe(3);
    expect(JSON.parse(out).generations).toEqual([
      { id: 'c', good: true },
      {
        id: 'b',
        good: false,
        code: 'BELFRY_GENERATION_CORRUPT',
        message: expect.stringMatching(/items\.npy: its checksum does not fit the manifest/),
      },
    ]);
    expect(belfry('verify', 'c', ...at).status).toBe(0);
    expect(belfry('verify', 'z', ...at)).toMatchObject({
      status: 1,
      error: expect.stringMatching(/holds no generation z \(BELFRY_UNKNOWN_GENERATION\)/),
    });
    expect(belfry('rollback', ...at)).toMatchObject({
      status: 1,
      error: expect.stringMatching(/its checksum does not fit .*\(BELFRY_GENERATION_CORRUPT\)/),
    });

    await data.quarantine('b');
    const { generations } = JSON.parse(belfry('generations', ...at, '--json').out) as { generations: unknown[] };
    expect(generations).toEqual([
      expect.objectContaining({ id: 'c', state: 'serving', items: 1 }),
      expect.objectContaining({ id: 'b', state: 'quarantined', problem: expect.stringMatching(/moved aside 20/) }),
    ]);
  });

  it(
    'of a folder that does not exist are an error that names it, and help says what each command does',
    { timeout: 60_000 },
    () => {
      const data = join(temporaryFolder(), 'none');
      for (const command of ['generations', 'rollback', 'verify']) {
        expect(belfry(command, '--data', data)).toMatchObject({
          status: 1,
          error: `error data folder ${data} does not exist; name another with --data DIR (BELFRY_FILE_UNREADABLE)\n`,
        });
        expect(belfry(command, '--help')).toMatchObject({ status: 0, out: expect.stringMatching(/--data <dir>/) });
      }
      mkdirSync(data);
      expect(belfry('rollback', '--data', data)).toMatchObject({
        status: 1,
        error: `error ${data} holds no generation to go back to (BELFRY_UNKNOWN_GENERATION)\n`,
      });
    },
  );
});
