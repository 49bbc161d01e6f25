/**
 * A server that speaks as much RESP2 as a client of hashes needs, and that a test can make silent, wrong or gone. The real
 * one is asked in test/interop/redis.test.ts.
 */
import { createServer, type Socket } from 'node:net';
import type { AddressInfo } from 'node:net';

export interface FakeRedis {
  readonly url: string;
  hashes: Record<string, Record<string, string>>;
  /** In place of the answer to HMGET: raw bytes, or undefined for silence. */
  fault: ((key: string) => string | undefined) | undefined;
  readonly keys: string[];
  /** Ends every connection. */
  hangUp(): void;
  close(): Promise<void>;
}

export async function startFakeRedis(port = 0): Promise<FakeRedis> {
  const sockets = new Set<Socket>();
  const fake: Omit<FakeRedis, 'url' | 'close' | 'hangUp'> = { hashes: {}, fault: undefined, keys: [] };
  const answer = ([name, key, ...fields]: string[]): string | undefined => {
    switch (name!.toUpperCase()) {
      case 'PING':
        return fake.fault === undefined ? '+PONG\r\n' : undefined;
      case 'HMGET':
        fake.keys.push(key!);
        if (fake.fault !== undefined) return fake.fault(key!);
        return `*${fields.length}\r\n${fields.map((field) => bulk(fake.hashes[key!]?.[field])).join('')}`;
      case 'CLIENT':
        return '+OK\r\n';
      default:
        return `-ERR unknown command '${name}'\r\n`;
    }
  };
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket)).on('error', () => undefined);
    let waiting = '';
    socket.setEncoding('utf8').on('data', (text: string) => {
      waiting += text;
      for (;;) {
        const [words, rest] = readCommand(waiting);
        if (words === undefined) return;
        waiting = rest;
        const reply = answer(words);
        if (reply !== undefined) socket.write(reply);
      }
    });
  });
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  const hangUp = () => {
    for (const socket of sockets) socket.destroy();
  };
  return Object.assign(fake, {
    url: `redis://127.0.0.1:${(server.address() as AddressInfo).port}`,
    hangUp,
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        hangUp();
      }),
  });
}

function bulk(text: string | undefined): string {
  return text === undefined ? '$-1\r\n' : `$${Buffer.byteLength(text)}\r\n${text}\r\n`;
}

/** One array of bulk strings; ASCII, as keys and fields of these tests are. */
function readCommand(text: string): [words: string[] | undefined, rest: string] {
  const head = /^\*(\d+)\r\n/.exec(text);
  if (head === null) return [undefined, text];
  let rest = text.slice(head[0].length);
  const words: string[] = [];
  for (let i = 0; i < Number(head[1]); i++) {
    const size = /^\$(\d+)\r\n/.exec(rest);
    if (size === null) return [undefined, text];
    const length = Number(size[1]);
    const word = rest.slice(size[0].length, size[0].length + length);
    if (rest.length < size[0].length + length + 2) return [undefined, text];
    words.push(word);
    rest = rest.slice(size[0].length + length + 2);
  }
  return [words, rest];
}
