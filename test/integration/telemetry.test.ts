/** ONNX Runtime must not keep a device id, nor call home. */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { temporaryFolder } from '../support/folders.js';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

it('running models leaves nothing of ONNX Runtime in the home folder', () => {
  const home = temporaryFolder();
  const { ORT_DISABLE_TELEMETRY: _unset, XDG_CACHE_HOME: _cache, ...environment } = process.env;
  const args = ['query', '--sample', '--data', temporaryFolder(), '--user', 'gimp', '--rerank', '--json'];
  const out = execFileSync(process.execPath, [MAIN, ...args], {
    env: { ...environment, HOME: home },
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  expect(JSON.parse(out).models.reranker).toBe('dlrm@1.0');
  expect(existsSync(`${home}/.cache/Microsoft`)).toBe(false);
  expect(readdirSync(home)).toEqual([]);
});
