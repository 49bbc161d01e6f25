/** A server that knows recorded exchanges and nothing else: a request that differs in a byte is unexpected. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { onTestFinished } from 'vitest';
import type { Recorded } from './kserve-recorded.js';

export async function startReplay({ exchanges }: Recorded): Promise<{ url: string; unexpected: string[] }> {
  const unexpected: string[] = [];
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = chunks.length === 0 ? undefined : Buffer.concat(chunks).toString('base64');
    const found = exchanges.find(
      (one) =>
        one.method === request.method &&
        one.path === request.url &&
        one.body === body &&
        Object.entries(one.headers).every(([name, value]) => request.headers[name] === value),
    );
    if (found === undefined) {
      unexpected.push(`${request.method} ${request.url}`);
      response.destroy();
      return;
    }
    response.writeHead(found.answer.status, found.answer.headers).end(Buffer.from(found.answer.body, 'base64'));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, unexpected };
}
