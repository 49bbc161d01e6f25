/** W3: what is read late in a long turn of the event loop is refused before it is parsed. */
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import Fastify, { type FastifyInstance } from 'fastify';
import { expect, it, onTestFinished, vi } from 'vitest';
import { shedEarly } from '../../../src/http/shed-early.js';
import { Metrics } from '../../../src/telemetry/metrics.js';

/** Sixteen of them take longer than a quarter of the deadline. */
const BLOCK_MS = 5;
const BEFORE = 16;

function block(ms = BLOCK_MS): void {
  for (const end = performance.now() + ms; performance.now() < end;);
}

async function connectTo(app: FastifyInstance, count: number): Promise<Socket[]> {
  await app.listen({ port: 0 });
  onTestFinished(() => app.close());
  const { port } = app.server.address() as { port: number };
  const sockets = await Promise.all(
    Array.from({ length: count }, async () => {
      const socket = connect(port, '127.0.0.1');
      await new Promise((resolve) => socket.once('connect', resolve));
      return socket;
    }),
  );
  onTestFinished(() => sockets.forEach((socket) => socket.destroy()));
  await sleep(20);
  return sockets;
}

async function ask(socket: Socket, path: string): Promise<string> {
  socket.write(`POST ${path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}`);
  return new Promise((resolve) => socket.once('data', (chunk) => resolve(chunk.toString())));
}

it('W3: in a long turn of many requests, later ones to retrieve are refused at once, others are not', async () => {
  const metrics = new Metrics();
  const app = Fastify();
  shedEarly(app, 100, metrics);
  for (const path of ['/retrieve', '/healthz'])
    app.post(path, (_request, reply) => {
      block();
      void reply.send({ answered: path });
    });
  const sockets = await connectTo(app, BEFORE + 3);
  const first = Array.from({ length: BEFORE }, () => '/retrieve');
  const paths = [...first, '/retrieve', '/healthz', '/retrieve/batch'];
  const answers = Promise.all(sockets.map((socket, i) => ask(socket, paths[i]!)));
  block(100); // until all are there to be read in one turn
  const all = await answers;
  const [second, health, batch] = all.slice(BEFORE);
  for (const answer of all.slice(0, BEFORE)) expect(answer).toMatch(/^HTTP\/1\.1 200 /);
  expect(health).toMatch(/^HTTP\/1\.1 200 /);
  for (const refused of [second!, batch!]) {
    expect(refused).toMatch(/^HTTP\/1\.1 503 .*\r\n/);
    expect(refused).toMatch(/\r\nretry-after: 1\r\n/);
    expect(JSON.parse(refused.slice(refused.indexOf('\r\n\r\n')))).toMatchObject({ code: 'BELFRY_OVERLOADED' });
  }
  expect(await ask(sockets[1]!, '/retrieve')).toMatch(/^HTTP\/1\.1 200 /); // the socket lives on, the next turn is new
  const { values } = await metrics.overload.shed.get();
  expect(values.map(({ labels, value }) => [labels.priority, labels.reason, value])).toEqual([
    ['online', 'turn', 1],
    ['batch', 'turn', 1],
  ]);
});

it('W3: a turn that is long alone refuses nothing, the next one soon after does', async () => {
  const app = Fastify();
  shedEarly(app, 100, new Metrics());
  let clock = 5000; // a machine that is busy with other tests would make turns longer
  app.post('/retrieve', (_request, reply) => {
    clock += 2; // sixteen of them: more than a quarter of the deadline, less than half of it
    void reply.send({});
  });
  const sockets = await connectTo(app, BEFORE + 1);
  const last = async (): Promise<string> => {
    const answers = await Promise.all(sockets.map((socket) => ask(socket, '/retrieve')));
    return answers.at(-1)!.slice(9, 12);
  };
  const now = vi.spyOn(performance, 'now').mockImplementation(() => clock);
  onTestFinished(() => now.mockRestore());
  expect(await last()).toBe('200');
  expect(await last()).toBe('503');
  clock += 2000;
  expect(await last()).toBe('200');
});
