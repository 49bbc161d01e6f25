/** The examples of docs/client.md run as they stand, against the built package and a real server. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { SAMPLE } from '../support/folders.js';
import { type Service, startService } from '../support/service.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const text = readFileSync(`${root}/docs/client.md`, 'utf8');
const examples = [...text.matchAll(/```js\n([\s\S]*?)```/g)].map(([, code]) => code!);

let service: Service;
let url: string;
beforeAll(async () => {
  service = await startService(SAMPLE);
  url = await service.app.listen({ port: 0, host: '127.0.0.1' });
});
afterAll(() => service.close());

/** What an example prints; `belfry/client` is found by the name of this package. */
async function run(code: string): Promise<string> {
  const args = ['--input-type=module', '-e', code.replaceAll('http://127.0.0.1:8080', url)];
  return (await promisify(execFile)(process.execPath, args, { cwd: root })).stdout;
}

it('has two examples', () => expect(examples).toHaveLength(2));

it('the first prints three items', async () => {
  const direct = await service.post('/retrieve', { user_id: 'gimp', k: 3, exclude_seen: true });
  const out = await run(examples[0]!);
  for (const { id } of direct.json().items as { id: string }[]) expect(out).toContain(id);
});

it('the second prints what was refused', async () => {
  const out = await run(examples[1]!);
  expect(out).toMatch(
    /code: 'BELFRY_INVALID_ARGUMENT',\s+status: 400,\s+field: 'k',\s+limit: 1000,\s+requestId: 'feed-81'/,
  );
});

it('loads nothing native, and no more of the service than errors would need', async () => {
  const out = await run(`
    await import('belfry/client');
    const { report } = await import('node:process');
    console.log(JSON.stringify(report.getReport().sharedObjects.filter((path) => path.endsWith('.node'))));
  `);
  expect(JSON.parse(out)).toEqual([]);
});
