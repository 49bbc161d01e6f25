/** src/client/api.ts is what the OpenAPI document says, and the client has a call for every route of it. */
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { format } from 'prettier';
import { expect, it } from 'vitest';
import { clientTypes, documentOf } from '../../../scripts/client-types.mjs';
import { BelfryClient } from '../../../src/client/index.js';
import * as schema from '../../../src/config/schema.js';
import * as store from '../../../src/generation/store.js';
import * as app from '../../../src/http/app.js';
import * as retriever from '../../../src/retrieval/retriever.js';
import * as metrics from '../../../src/telemetry/metrics.js';

const file = (path: string) => readFileSync(fileURLToPath(new URL(`../../../${path}`, import.meta.url)), 'utf8');
const document = () => documentOf({ ...app, ...retriever, ...metrics, ...store, ...schema });

it('has the types of the document; after a change of a schema, run: npm run client:types', async () => {
  const options = { parser: 'typescript', ...JSON.parse(file('.prettierrc.json')) };
  expect(file('src/client/api.ts')).toBe(await format(clientTypes(await document()), options));
});

/** For people and for tools of their own: text, pictures, long reports. */
const WITHOUT_CALL = /^GET (\/metrics|\/admin\/generations\/\{id\}\/report(\.svg)?|\/admin\/benches.*)$/;

it('calls every route', async () => {
  const called: string[] = [];
  const server = createServer((request, response) => {
    called.push(`${request.method} ${request.url!.replace(/\bid-1\b/, '{id}')}`);
    response.end('{}');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const client = new BelfryClient({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` });
  const names = Object.getOwnPropertyNames(BelfryClient.prototype) as (keyof BelfryClient)[];
  for (const name of names) {
    if (['constructor', 'close', 'ask', 'call', 'administer', 'send'].includes(name)) continue;
    await (client[name] as (first: unknown) => Promise<unknown>)('id-1');
  }
  await client.close();
  server.close();
  const routes = [...file('src/client/api.ts').matchAll(/^ {2}'([A-Z]+ \S+)': /gm)].map(([, route]) => route as string);
  expect(called.sort()).toEqual(routes.filter((route) => !WITHOUT_CALL.test(route)).sort());
});
