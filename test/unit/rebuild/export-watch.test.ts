import { mkdirSync, renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type ExportLook, ExportWatch, lookAtFolder } from '../../../src/rebuild/export-watch.js';
import { temporaryFolder } from '../../support/folders.js';

/** A watch whose looks and clock the test sets; `fired` counts what it started. */
function watching(first: ExportLook | undefined) {
  const state = { look: first, now: 0, fired: 0, isTaken: true };
  const watch = new ExportWatch({
    look: async () => state.look,
    settleMs: 5000,
    pollMs: 1_000_000,
    now: () => state.now,
    onSettled: async () => {
      state.fired++;
      return state.isTaken;
    },
    onError: (error) => {
      throw error;
    },
  });
  const tickAt = async (now: number, look?: ExportLook | 'gone') => {
    state.now = now;
    if (look !== undefined) state.look = look === 'gone' ? undefined : look;
    await watch.tick();
    return state.fired;
  };
  return { state, watch, tickAt };
}

const look = (marks: string, content: string, success?: string): ExportLook => ({
  marks,
  content,
  ...(success === undefined ? {} : { success }),
});

describe('a watched export', () => {
  it('is built once, when it was announced and everything has held still', async () => {
    const { watch, tickAt } = watching(look('a', '1'));
    await watch.start();
    expect(await tickAt(0)).toBe(0);
    expect(await tickAt(10_000, look('a', '2'))).toBe(0); // vectors change, nobody says that they are whole
    expect(await tickAt(11_000, look('b', '3'))).toBe(0); // announced
    expect(await tickAt(15_900)).toBe(0);
    expect(await tickAt(15_950, look('b', '4'))).toBe(0); // still being written: the wait begins anew
    expect(await tickAt(20_900)).toBe(0);
    expect(await tickAt(21_000)).toBe(1);
    expect(await tickAt(40_000)).toBe(1);
    expect(await tickAt(41_000, look('b', '5'))).toBe(1);
    expect(await tickAt(50_000)).toBe(1);
    watch.close();
  });

  it('waits for _SUCCESS where the export before had one, and while the folder is away', async () => {
    const { watch, tickAt } = watching(look('s1 e1', '1', 's1'));
    await watch.start();
    expect(await tickAt(0, look('e2', '2'))).toBe(0);
    expect(await tickAt(60_000)).toBe(0);
    expect(await tickAt(61_000, 'gone')).toBe(0);
    expect(await tickAt(62_000, look('s2 e2', '2', 's2'))).toBe(0);
    expect(await tickAt(67_000)).toBe(1);
    watch.close();
  });

  it('is tried again while another build runs, and not again when it was refused', async () => {
    const { state, watch, tickAt } = watching(undefined);
    await watch.start();
    state.isTaken = false;
    await tickAt(0, look('a', '1'));
    expect(await tickAt(5000)).toBe(1);
    await tickAt(6000);
    state.isTaken = true;
    expect(await tickAt(11_000)).toBe(2);
    await tickAt(12_000);
    expect(await tickAt(60_000)).toBe(2);
    watch.close();
  });

  it('does not fire twice while a build takes its time', async () => {
    let end = () => undefined as void;
    let fired = 0;
    const watch = new ExportWatch({
      look: async () => look(String(fired), 'x'),
      settleMs: 0,
      pollMs: 1_000_000,
      onSettled: () => {
        fired++;
        return new Promise((resolve) => {
          end = () => resolve(true);
        });
      },
    });
    await watch.start();
    fired = 1;
    await watch.tick();
    const building = watch.tick();
    await new Promise((resolve) => setTimeout(resolve, 10));
    await watch.tick();
    expect(fired).toBe(2);
    end();
    await building;
    watch.close();
  });
});

describe('a look at a models folder', () => {
  it('sees announcements at the top and in embeddings/, and any change of any file', async () => {
    const path = temporaryFolder();
    mkdirSync(join(path, 'embeddings'));
    const write = (name: string, text: string) => writeFileSync(join(path, name), text);
    write('embeddings/item_embeddings.npy', 'x');
    const seen = [await lookAtFolder(path)];
    const next = async () => {
      const found = await lookAtFolder(path);
      const before = seen.at(-1)!;
      seen.push(found);
      return [found!.marks !== before.marks, found!.content !== before.content, found!.success !== undefined];
    };
    write('embeddings/item_embeddings.npy', 'longer');
    expect(await next()).toEqual([false, true, false]);
    write('embeddings/export.json', '{}');
    expect(await next()).toEqual([true, true, false]);
    write('_SUCCESS', '');
    expect(await next()).toEqual([true, true, true]);
    expect(await next()).toEqual([false, false, true]);
    utimesSync(join(path, '_SUCCESS'), 1, 1);
    expect(await next()).toEqual([true, true, true]);
    rmSync(join(path, '_SUCCESS'));
    expect(await next()).toEqual([true, true, false]);
    renameSync(path, `${path}-away`);
    expect(await lookAtFolder(path)).toBeUndefined();
    renameSync(`${path}-away`, path);
  });
});
