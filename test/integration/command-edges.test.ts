/** The command line when it is used wrongly, stopped, or pointed at what is not Belfry. */
import { execFile, spawn } from 'node:child_process';
import { readdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { makeModelsFolder, randomValues, SAMPLE, temporaryFolder } from '../support/folders.js';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

function belfry(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [MAIN, ...args], { cwd: temporaryFolder() }, (error, out, err) => {
      resolve({ code: error === null ? 0 : (error.code as unknown as number), out, err });
    });
  });
}

describe('wrong use', () => {
  it.each<[string[], number, string]>([
    [['query', '--sample', '--user', 'a', '-k', 'ten'], 2, 'error -k: expected a number, received "ten"'],
    [['serve', '--sample', '--port', ''], 2, 'error --port: expected a number, received ""'],
    [
      ['query', '--sample', '--body', '/nowhere.json'],
      1,
      "error ENOENT: no such file or directory, open '/nowhere.json' (BELFRY_FILE_UNREADABLE)",
    ],
  ])('%j', async (args, code, message) => {
    const result = await belfry(...args);
    expect([result.code, result.err]).toEqual([code, expect.stringContaining(message)]);
    expect(result.err.trim().split('\n')).toHaveLength(1); // no stack: it is no defect
  });
});

describe('query --url', () => {
  it.each<[number, string, string]>([
    [200, '<!doctype html>', 'no Belfry answers at this address: status 200, "<!doctype html>"'],
    [404, '{"code":"ELSEWHERE"}', 'no Belfry answers at this address: status 404, "{\\"code\\":\\"ELSEWHERE\\"}"'],
    [200, 'null', 'no Belfry answers at this address: status 200, "null"'],
  ])('%i %s is somebody else', async (status, body, message) => {
    const paths: string[] = [];
    const other = createServer((request, response) => {
      paths.push(request.url!);
      response.writeHead(status).end(body);
    });
    await new Promise<void>((resolve) => {
      other.listen(0, '127.0.0.1', resolve);
    });
    const { port } = other.address() as AddressInfo;
    const result = await belfry('query', '--user', 'a', '--url', `http://127.0.0.1:${port}/behind/proxy`);
    other.close();
    expect(paths).toEqual(['/behind/proxy/retrieve']);
    expect([result.code, result.err]).toEqual([1, `error ${message} (BELFRY_SERVER_UNREACHABLE)\n`]);
  });
});

it('a query in process uses the settings that a server would', async () => {
  const models = makeModelsFolder(temporaryFolder(), { items: { data: randomValues(64, 1), dims: 8 } });
  writeFileSync(join(models, 'rerank.mjs'), 'export const rerank = (request, list) => list.map(({ rank }) => rank);\n');
  const env = { ...process.env, BELFRY_RERANK_MODULE: join(models, 'rerank.mjs') };
  const out = await new Promise<string>((resolve, reject) => {
    execFile(
      process.execPath,
      [MAIN, 'query', '--models', models, '--items', '3', '--rerank', '--json'],
      { cwd: temporaryFolder(), env },
      (error, text) => (error === null ? resolve(text) : reject(error)),
    );
  });
  expect(JSON.parse(out)).toMatchObject({
    models: { reranker: 'module@0' },
    items: [{ retrieval_rank: 8 }, {}, {}, {}, {}, {}, {}, {}],
  });
});

it.each(['serve', 'build'])(
  'X4: %s stops at SIGTERM while it builds, and leaves nothing half-made',
  async (command) => {
    const data = temporaryFolder();
    const child = spawn(process.execPath, [MAIN, command, '--sample', '--data', data], {
      stdio: ['ignore', 'ignore', 'pipe'],
      cwd: temporaryFolder(),
    });
    let err = '';
    child.stderr.on('data', (chunk) => {
      if (err === '') child.kill('SIGTERM'); // the plan is said, the import begins
      err += chunk;
    });
    const code = await new Promise((resolve) => {
      child.once('exit', resolve);
    });
    expect([code, err]).toEqual([1, expect.stringMatching(/error stopped by SIGTERM \(BELFRY_STOPPED\)\n$/)]);
    expect(readdirSync(data).filter((name) => !/^(gen-|CURRENT$|builds\.json$)/.test(name))).toEqual([]);
  },
);

it('X4: killed in a build, it starts again and cleans up', async () => {
  const data = temporaryFolder();
  const child = spawn(process.execPath, [MAIN, 'build', '--sample', '--data', data], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  child.stderr.once('data', () => child.kill('SIGKILL'));
  await new Promise((resolve) => {
    child.once('exit', resolve);
  });
  expect(readdirSync(data).some((name) => name.startsWith('LOCK-'))).toBe(true);
  const again = await belfry('build', '--models', SAMPLE, '--data', data, '--json');
  expect(again.code).toBe(0);
  expect(readdirSync(data).sort()).toEqual(['CURRENT', 'builds.json', `gen-${JSON.parse(again.out).id}`, 'upserts']);
});
