/** What Node does not tell of sockets, or does not do with them. */
import { closeSync, openSync, readFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { expect, it, onTestFinished } from 'vitest';
import { loadAddon } from '../../../src/ann/addon.js';
import { fileWith } from '../../support/model-fixtures.js';

const { duplicateDescriptor, socketAge } = loadAddon();
const ageOf = (socket: Socket): number => socketAge((socket as unknown as { _handle: { fd: number } })._handle.fd);

it.runIf(process.platform === 'linux')('tells how long ago bytes came in, whether they are read or not', async () => {
  const server = createServer();
  onTestFinished(() => void server.close());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const client = connect((server.address() as { port: number }).port, '127.0.0.1');
  onTestFinished(() => void client.destroy());
  const served = await new Promise<Socket>((resolve) => server.once('connection', resolve));
  const ages: number[] = [];
  const heard = () => new Promise<void>((resolve) => served.once('data', () => resolve(void ages.push(ageOf(served)))));
  for (const blocked of [100, 0]) {
    const next = heard();
    await new Promise<void>((resolve) => client.write('x', () => resolve()));
    for (const end = performance.now() + blocked; performance.now() < end;); // it waits meanwhile
    await next;
  }
  expect(ages[0]).toBeGreaterThanOrEqual(90);
  expect(ages[0]).toBeLessThan(5000);
  expect(ages[1]).toBeLessThan(ages[0]!);
});

it('is -1 for what is no TCP connection', () => {
  const file = openSync(fileWith('file', 'x'), 'r');
  onTestFinished(() => closeSync(file));
  expect(socketAge(file)).toBe(-1);
  expect(() => socketAge(-1)).toThrow('descriptor: expected an integer from 0');
});

it('makes a second descriptor of the same file, which outlives the first', () => {
  const file = openSync(fileWith('file', 'x'), 'r');
  const second = duplicateDescriptor(file);
  onTestFinished(() => closeSync(second));
  expect(second).not.toBe(file);
  closeSync(file);
  expect(readFileSync(second, 'utf8')).toBe('x');
  expect(duplicateDescriptor(1_000_000_000)).toBe(-1); // not open
  expect(() => duplicateDescriptor(-1)).toThrow('descriptor: expected an integer from 0');
});
