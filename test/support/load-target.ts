/** Servers that a load is tested on: their latency is known. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { onTestFinished } from 'vitest';
import { Target } from '../../src/bench/load/target.js';

export const BODY = JSON.stringify({ items: [], generation: 'g', models: {}, degraded: [], returned: 0 });

export interface Served {
  readonly url: string;
  readonly target: Target;
  /** Bodies of the last requests. */
  readonly bodies: Buffer[];
}

export type Answer = (request: IncomingMessage, response: ServerResponse, body: Buffer) => void;

export async function serve(answer: Answer): Promise<Served> {
  const bodies: Buffer[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const body = Buffer.concat(chunks);
      if (bodies.push(body) > 100) bodies.shift();
      answer(request, response, body);
    });
  });
  server.keepAliveTimeout = 60_000;
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const target = Target.at(url, 5000);
  onTestFinished(async () => {
    await target.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return { url, target, bodies };
}

export function send(response: ServerResponse, body = BODY, status = 200): void {
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) });
  response.end(body);
}

/** Answers at once, but for the first `stallMs` of every `everyMs`, which it answers at their end, all together. */
export function stalling(stallMs: number, everyMs: number): Answer {
  const start = performance.now();
  return (_request, response) => {
    const phase = (performance.now() - start) % everyMs;
    if (phase < stallMs) setTimeout(() => send(response), stallMs - phase);
    else send(response);
  };
}
