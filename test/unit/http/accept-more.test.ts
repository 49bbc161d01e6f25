/** W3: new clients get in, however long the turns of the event loop are. */
import { readdirSync } from 'node:fs';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import { promisify } from 'node:util';
import Fastify, { type FastifyInstance } from 'fastify';
import { expect, it, onTestFinished } from 'vitest';
import { acceptMore } from '../../../src/http/accept-more.js';

const CLIENTS = 64;

async function listening(prepare: (app: FastifyInstance) => void): Promise<FastifyInstance> {
  const app = Fastify({ forceCloseConnections: true });
  prepare(app);
  app.get('/', () => 'here');
  await app.listen({ host: '127.0.0.1', port: 0 });
  onTestFinished(() => app.close());
  return app;
}

const portOf = (app: FastifyInstance): number => (app.server.address() as AddressInfo).port;

/** Turns of the event loop in which connections were accepted. */
async function turnsFor(app: FastifyInstance): Promise<number> {
  let accepted = 0;
  const count = () => void accepted++;
  app.server.on('connection', count);
  const sockets: Socket[] = [];
  onTestFinished(() => sockets.forEach((socket) => socket.destroy()));
  for (let i = 0; i < CLIENTS; i++) sockets.push(connect(portOf(app), '127.0.0.1'));
  let turns = 0;
  for (let before = 0; accepted < CLIENTS; before = accepted) {
    await turn();
    if (accepted > before) turns++;
  }
  app.server.off('connection', count);
  return turns;
}

it('W3: takes several connections in a turn', async () => {
  const plain = await turnsFor(await listening(() => undefined));
  const more = await turnsFor(await listening((app) => acceptMore(app, 511)));
  expect(more).toBeLessThanOrEqual(CLIENTS / 16 + 4);
  expect(more).toBeLessThan(plain / 4);
});

it('counts them, answers on them, and stops taking any', async () => {
  const before = process.platform === 'linux' ? readdirSync('/proc/self/fd').length : 0;
  const app = await listening((one) => acceptMore(one, 511));
  const address = `http://127.0.0.1:${portOf(app)}/`;
  await turnsFor(app);
  const connections = promisify(app.server.getConnections.bind(app.server));
  expect(await connections()).toBe(CLIENTS);
  const answers = await Promise.all(Array.from({ length: 40 }, async () => (await fetch(address)).text()));
  expect(new Set(answers)).toEqual(new Set(['here']));
  await app.close();
  await expect(fetch(address)).rejects.toThrow();
  if (process.platform !== 'linux') return;
  await expect.poll(() => readdirSync('/proc/self/fd').length).toBeLessThan(before + 8); // none of the sixteen is left
});
