import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { BuildHistory, type BuildRecord, problemOf } from '../../../src/rebuild/history.js';
import { temporaryFolder } from '../../support/folders.js';

const record = (result: BuildRecord['result'], at = 0): BuildRecord => ({
  started: new Date(at * 1000).toISOString(),
  seconds: 1.5,
  trigger: 'api',
  result,
  ...(result === 'failed' ? { code: 'BELFRY_SKEW', message: 'of another training' } : { generation: 'g' }),
  stages: { graph: 1 },
});

describe('the history of builds', () => {
  it('keeps the last 50 and leaves one file', async () => {
    const data = temporaryFolder();
    const history = new BuildHistory(data);
    expect([await history.read(), await history.version()]).toEqual([[], 0]);
    for (let at = 0; at < 53; at++) expect(await history.add(record('published', at))).toBe(true);
    const kept = await history.read();
    expect([kept.length, kept[0], kept.at(-1)]).toEqual([50, record('published', 3), record('published', 52)]);
    expect(readdirSync(data)).toEqual(['builds.json']);
    expect(await history.version()).toBeGreaterThan(0);
  });

  it('tells of an unchanged export only when it ends a problem', async () => {
    const history = new BuildHistory(temporaryFolder());
    await history.add(record('published'));
    expect(await history.add(record('unchanged'))).toBe(false);
    await history.add(record('failed'));
    expect(problemOf(await history.read())).toMatchObject({ code: 'BELFRY_SKEW' });
    await history.add(record('cancelled'));
    expect(problemOf(await history.read())).toMatchObject({ code: 'BELFRY_SKEW' });
    expect(await history.add(record('unchanged'))).toBe(true);
    expect(problemOf(await history.read())).toBeUndefined();
  });

  it.each(['', '[{"started":', '{"a":1}', '[{"seconds":"1"}]'])('begins anew where the file holds %j', async (text) => {
    const data = temporaryFolder();
    writeFileSync(join(data, 'builds.json'), text);
    const history = new BuildHistory(data);
    expect(await history.read()).toEqual([]);
    await history.add(record('published'));
    expect(await history.read()).toEqual([record('published')]);
  });
});
