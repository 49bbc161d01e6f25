/** Connections of a burst wait in the kernel while the server is busy; without room there they are tried again after a second. */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { expect, it, onTestFinished } from 'vitest';
import { makeModelsFolder, randomValues, temporaryFolder } from '../support/folders.js';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const BURST = 700; // more than the 511 that Node asks for
const DIMS = 8;

function roomOfSystem(): number {
  try {
    return Number(readFileSync('/proc/sys/net/core/somaxconn', 'utf8'));
  } catch {
    return 0; // another system, whose limit is its own matter
  }
}

it.skipIf(roomOfSystem() <= BURST).each([[[]], [['--workers', '2']]])(
  `W3: ${BURST} connections come in while the process does not get the processor: %j`,
  { timeout: 60_000 },
  async (workers: string[]) => {
    const models = makeModelsFolder(temporaryFolder(), { items: { data: randomValues(20 * DIMS, 1), dims: DIMS } });
    const args = ['serve', '--json', '--models', models, '--data', temporaryFolder(), '--port', '0', ...workers];
    const child = spawn(process.execPath, [MAIN, ...args, '--log-level', 'error'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    onTestFinished(() => void child.kill('SIGKILL'));
    let said = '';
    const port = await new Promise<number>((resolve, reject) => {
      child.stdout.on('data', (chunk) => {
        said += chunk;
        const found = /"address":"http:\/\/[^"]*:(\d+)"/.exec(said)?.[1];
        if (found !== undefined) resolve(Number(found));
      });
      child.once('exit', (code) => reject(new Error(`belfry serve ended with ${code}: ${said}`)));
    });
    child.kill('SIGSTOP');
    const sockets: Socket[] = [];
    onTestFinished(() => sockets.forEach((socket) => socket.destroy()));
    const connected = Array.from(
      { length: BURST },
      () =>
        new Promise<void>((resolve, reject) => {
          const socket = connect(port, '127.0.0.1', resolve).on('error', reject);
          sockets.push(socket);
        }),
    );
    const started = performance.now();
    await Promise.all(connected);
    // A connection that found no room would be tried again by the kernel of its client, after 1 s and then never in time.
    expect(performance.now() - started).toBeLessThan(15_000);
    child.kill('SIGCONT');
    expect((await fetch(`http://127.0.0.1:${port}/healthz`)).status).toBe(200);
  },
);
