/** What is left when a job ends too early, and that the next one makes the same files of it. */
import * as system from 'node:fs';
import { appendFileSync, existsSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { beforeEach, describe, expect, it } from 'vitest';
import type { Encoded, OutputFormat } from '../../../src/jobs/chunk.js';
import { type FileSystem, PartialOutput, type PartialOptions } from '../../../src/jobs/partial-output.js';
import { temporaryFolder } from '../../support/folders.js';
import { expectError } from '../../support/expect-error.js';

/** Two files of plain text: what is in them can be read off. */
const FORMAT: OutputFormat = {
  begin: () => [Buffer.from('A<'), Buffer.from('B[')],
  encode: () => {
    throw new Error('chunks of this test are made by hand');
  },
  end: (chunks) => [
    [Buffer.from(`>${chunks.map(({ note, starts }) => `${String(note)}@${starts[0]}`).join(',')}`)],
    [Buffer.from(`]${chunks.reduce((sum, { hits }) => sum + hits, 0)}`)],
  ],
};
const WHOLE = ['A<aa0aa1aa2>0@2,1@5,2@8', 'B[b0b1b2]6'];
const FACTS = { k: 5, generation: 'g1', filter: null };

let folder: string;
let finals: string[];
beforeEach(() => {
  const parent = temporaryFolder();
  folder = join(parent, 'out.partial');
  system.mkdirSync(folder);
  finals = [join(parent, 'a.txt'), join(parent, 'b.txt')];
});

const open = (more: Partial<PartialOptions> = {}) =>
  PartialOutput.open({ folder, finals, format: FORMAT, facts: FACTS, restart: false, ...more });
const chunk = (n: number): Encoded => ({
  pieces: [[Buffer.from('aa'), Buffer.from(String(n))], [Buffer.from(`b${n}`)]],
  hits: 2,
  note: n,
});
const results = () => finals.map((path) => readFileSync(path, 'utf8'));

/** Opens, writes the chunks that are missing of the three, publishes. Returns how many were there. */
function finish(): number {
  const output = open();
  const there = output.chunks;
  for (let n = there; n < 3; n++) output.append(chunk(n));
  expect(output.hits).toBe(6);
  expect(output.publish()).toBe(WHOLE.join('').length);
  output.close();
  expect(readdirSync(folder)).toEqual([]);
  expect(results()).toEqual(WHOLE);
  return there;
}

function begin(chunks: number): void {
  const output = open();
  for (let n = 0; n < chunks; n++) output.append(chunk(n));
  output.close();
}

describe('a job that goes on', () => {
  it.each([0, 1, 2, 3])('after %i chunks', (chunks) => {
    begin(chunks);
    expect(finals.some((path) => existsSync(path))).toBe(false);
    expect(finish()).toBe(chunks);
  });

  it.each<[string, number, () => void]>([
    ['a torn line', 1, () => truncateSync(join(folder, 'journal'), readFileSync(join(folder, 'journal')).length - 3)],
    ['half a chunk that no line tells of', 2, () => appendFileSync(join(folder, 'a.txt'), 'aa')],
    ['an end that no line tells of', 2, () => appendFileSync(join(folder, 'b.txt'), ']4')],
    ['a changed byte', 1, () => writeFileSync(join(folder, 'a.txt'), 'A<aa0aaX')],
    ['a file cut off', 1, () => truncateSync(join(folder, 'b.txt'), 5)],
    ['a lost beginning', 0, () => writeFileSync(join(folder, 'a.txt'), 'Z')],
    ['a lost file', 0, () => system.rmSync(join(folder, 'b.txt'))],
    ['a lost journal', 0, () => system.rmSync(join(folder, 'journal'))],
    ['a line that is not ours', 1, () => changeLine(2, 'ffffffff')],
  ])('with %s', (_what, kept, harm) => {
    begin(2);
    harm();
    expect(finish()).toBe(kept);
  });

  it('whichever write, fsync or rename fails first: the last name means that both files are whole', () => {
    for (let at = 1, hasFailed = true; hasFailed; at++) {
      const code = at % 2 === 0 ? 'EIO' : 'ENOSPC';
      writeFileSync(finals[0]!, 'scores of last night');
      writeFileSync(finals[1]!, 'of last night');
      hasFailed = false;
      try {
        const files = failingAt(at, code, () => (hasFailed = true));
        const output = open({ files });
        for (let n = 0; n < 3; n++) output.append(chunk(n));
        output.publish();
        output.close();
      } catch (error) {
        expect(error).toMatchObject({ code: code === 'EIO' ? 'EIO' : 'BELFRY_DISK_SPACE' });
      }
      if (existsSync(finals[1]!) && readFileSync(finals[1]!, 'utf8') !== 'of last night')
        expect(results()).toEqual(WHOLE);
      else if (existsSync(finals[1]!)) expect(results()[0]).toBe('scores of last night');
      if (hasFailed) finish();
      else expect(at).toBeGreaterThan(20);
    }
  });

  it('published, but killed before its journal was removed: the same answer once more', () => {
    begin(3);
    const journal = join(folder, 'journal');
    const output = open({ files: { ...system, renameSync: (from, to) => (system.copyFileSync(from, to), undefined) } });
    // The journal survives, as after a kill.
    const rm = readFileSync(journal);
    output.publish();
    output.close();
    writeFileSync(journal, Buffer.concat([rm, wholeLine()]));
    for (const path of ['a.txt', 'b.txt']) system.rmSync(join(folder, path));
    expect(finish()).toBe(3);
    // And once somebody has taken the files away, there is nothing to go on from.
    begin(3);
    const whole = Buffer.concat([readFileSync(journal), wholeLine()]);
    system.rmSync(folder, { recursive: true });
    system.mkdirSync(folder);
    writeFileSync(journal, whole);
    for (const path of finals) system.rmSync(path);
    expect(finish()).toBe(0);
  });
});

describe('what cannot go on', () => {
  it('another job, named by what differs; --restart begins anew', async () => {
    begin(2);
    const other = { facts: { k: 6, generation: 'g2', filter: '{}' } };
    await expectError(
      () => open(other),
      'BELFRY_RESUME_MISMATCH',
      `${folder} is of another job: k was 5 and is 6; generation was "g1" and is "g2"; filter was null and is "{}"; go on with the options of that job, or begin anew with --restart`,
    );
    const output = open({ ...other, restart: true });
    expect([output.chunks, output.hits]).toEqual([0, 0]);
    output.close();
    await expectError(() => open(), 'BELFRY_RESUME_MISMATCH', 'k was 6 and is 5');
  });

  it('a full disk, a quota and a limit of file size say what is kept', async () => {
    for (const [code, words] of [
      ['ENOSPC', 'the disk is full (ENOSPC)'],
      ['EDQUOT', 'the disk is full (EDQUOT)'],
      ['EFBIG', 'the file system takes no larger file (EFBIG)'],
    ] as const) {
      let fails = false;
      const files: FileSystem = {
        ...system,
        writeSync: ((...args: Parameters<typeof system.writeSync>) => {
          if (fails) throw Object.assign(new Error('no'), { code });
          return system.writeSync(...args);
        }) as typeof system.writeSync,
      };
      const output = open({ files, restart: true });
      output.append(chunk(0));
      fails = true;
      await expectError(
        () => output.append(chunk(1)),
        'BELFRY_DISK_SPACE',
        `${finals[1]}: ${words}; what is done is kept in b.txt.partial: free some space and run the same command again`,
      );
      output.close();
      expect(finish()).toBe(1);
    }
  });
});

/** Every write, fsync and rename counts; the one of that number fails. */
function failingAt(at: number, code: string, onFail: () => void): FileSystem {
  let calls = 0;
  const wrap =
    <A extends unknown[], R>(call: (...args: A) => R) =>
    (...args: A): R => {
      if (++calls === at) {
        onFail();
        throw Object.assign(new Error(`call ${at}`), { code });
      }
      return call(...args);
    };
  return {
    writeSync: wrap(system.writeSync as (...args: unknown[]) => number) as typeof system.writeSync,
    fsyncSync: wrap(system.fsyncSync),
    renameSync: wrap(system.renameSync),
  };
}

function wholeLine(): Buffer {
  const text = JSON.stringify({ whole: true });
  return Buffer.from(`${crc32(text).toString(16)} ${text}\n`);
}

function changeLine(place: number, sum: string): void {
  const path = join(folder, 'journal');
  const lines = readFileSync(path, 'utf8').split('\n');
  lines[place] = lines[place]!.replace(/^\S+/, sum);
  writeFileSync(path, lines.join('\n'));
}
