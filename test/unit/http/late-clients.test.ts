/** Q4: many clients that are late at once are closed over many turns of the event loop. */
import type { Socket } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import { expect, it, vi } from 'vitest';
import { answerBrokenClient } from '../../../src/http/errors.js';
import { Metrics } from '../../../src/telemetry/metrics.js';

const LATE = Object.assign(new Error('late'), { code: 'ERR_HTTP_REQUEST_TIMEOUT' });

class FakeSocket {
  writable = true;
  bytesWritten = 0;
  text = '';
  end: 'destroyed' | 'flushed' | undefined;

  write(text: string): void {
    this.text += text;
  }
  destroy(): void {
    this.end = 'destroyed';
  }
  destroySoon(): void {
    this.end = 'flushed';
  }
}

it('Q4: clients that are late together are told one after the other, with turns for others between', async () => {
  const metrics = new Metrics();
  const sockets = Array.from({ length: 20 }, () => new FakeSocket());
  for (const socket of sockets) answerBrokenClient(LATE, socket as unknown as Socket, metrics);
  const closed = () => sockets.filter(({ end }) => end !== undefined).length;
  expect(closed()).toBe(0);
  sockets[19]!.bytesWritten = 100; // its request came after all, and was answered
  for (let turns = 1; turns <= 18; turns++) {
    await turn();
    expect(closed()).toBeLessThanOrEqual(turns + 1);
  }
  await expect.poll(closed).toBe(20);
  for (const { text, end } of sockets.slice(0, 19)) {
    expect(text).toMatch(/^HTTP\/1\.1 408 [^]*connection: close[^]*BELFRY_REQUEST_TIMEOUT/);
    expect(end).toBe('destroyed');
  }
  expect([sockets[19]!.text, sockets[19]!.end]).toEqual(['', 'flushed']);
  const { values } = await metrics.errors.get();
  expect(values).toMatchObject([{ labels: { code: 'BELFRY_REQUEST_TIMEOUT' }, value: 19 }]);
});

it('Q4: those who have waited for long are closed several in a turn: they hold connections', async () => {
  const now = vi.spyOn(performance, 'now').mockReturnValue(0);
  const sockets = Array.from({ length: 50 }, () => new FakeSocket());
  for (const socket of sockets) answerBrokenClient(LATE, socket as unknown as Socket, new Metrics());
  now.mockReturnValue(600);
  await turn();
  await turn();
  expect(sockets.every(({ end }) => end === 'destroyed')).toBe(true);
  now.mockRestore();
});

it('what is not HTTP is told at once', () => {
  const socket = new FakeSocket();
  answerBrokenClient(
    Object.assign(new Error('parse'), { code: 'HPE_INVALID_METHOD' }),
    socket as unknown as Socket,
    new Metrics(),
  );
  expect([socket.end, socket.text]).toEqual(['destroyed', expect.stringMatching(/^HTTP\/1\.1 400 /)]);
});
