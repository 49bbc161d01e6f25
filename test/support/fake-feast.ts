/**
 * A Feast feature server that a test holds in its hand: strict about what it is asked, and able to be down, slow, wrong,
 * or old. The form of its answers is that of `feast serve` 0.67 (test/interop/feast.test.ts asks the real one).
 */
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export interface FakeFeast {
  readonly url: string;
  /** user → feature → value; a user that is absent is NOT_FOUND. */
  users: Record<string, Record<string, unknown>>;
  /** ISO 8601, of every value. */
  written: string;
  /** Answers in place of the right one. */
  fault: ((response: ServerResponse, right: FeastAnswer) => void) | undefined;
  /** Bodies that were sent, in order. */
  readonly asked: { entities: Record<string, unknown[]>; features?: string[]; feature_service?: string }[];
  readonly headers: Record<string, string | string[] | undefined>[];
  close(): Promise<void>;
}

export interface FeastAnswer {
  metadata: { feature_names: string[] };
  results: { values: unknown[]; statuses: string[]; event_timestamps: string[] }[];
}

const VIEW = 'user_stats';

export async function startFakeFeast(columns: readonly string[]): Promise<FakeFeast> {
  const fake: Omit<FakeFeast, 'url' | 'close'> = {
    users: {},
    written: new Date().toISOString(),
    fault: undefined,
    asked: [],
    headers: [],
  };
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      if (request.method !== 'POST' || request.url !== '/get-online-features')
        return void response.writeHead(404).end();
      if (request.headers['content-type'] !== 'application/json') return void response.writeHead(422).end();
      const body = JSON.parse(Buffer.concat(chunks).toString('utf8')) as FakeFeast['asked'][number];
      fake.asked.push(body);
      fake.headers.push(request.headers);
      const right = answerOf(fake, columns, body);
      if (right === undefined) return void response.writeHead(500).end('"no such feature"');
      if (fake.fault !== undefined) return fake.fault(response, right);
      sendJson(response, right);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return Object.assign(fake, {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  });
}

export function sendJson(response: ServerResponse, body: unknown): void {
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

function answerOf(
  { users, written }: Pick<FakeFeast, 'users' | 'written'>,
  columns: readonly string[],
  { features, feature_service, entities }: FakeFeast['asked'][number],
): FeastAnswer | undefined {
  const asked = feature_service === undefined ? (features ?? []).map((name) => name.split(':')[1]!) : columns;
  if (!asked.every((name) => columns.includes(name))) return undefined;
  const ids = entities.user_id!;
  const key = {
    values: ids,
    statuses: ids.map(() => 'PRESENT'),
    event_timestamps: ids.map(() => '1970-01-01T00:00:00Z'),
  };
  const results = asked.map((name) => ({
    values: ids.map((id) => users[String(id)]?.[name] ?? null),
    statuses: ids.map((id) => (users[String(id)] === undefined ? 'NOT_FOUND' : 'PRESENT')),
    event_timestamps: ids.map((id) => (users[String(id)] === undefined ? '1970-01-01T00:00:00Z' : written)),
  }));
  return {
    metadata: { feature_names: ['user_id', ...asked.map((name) => `${VIEW}__${name}`)] },
    results: [key, ...results],
  };
}
