/**
 * A proxy in front of a model server that can make it fail: for benches of what a service does then. Belfry is started
 * with the address of the proxy as its model server.
 */
import { createServer, connect, type Server, type Socket } from 'node:net';
import { BelfryError } from '../../errors.js';

export const FAULTS = ['hung', 'slow-drip', '5xx', 'garbage', 'gone'] as const;
export type ProxyFault = (typeof FAULTS)[number];

/** What a faulty server answers to whatever comes. */
const ANSWERS: Partial<Record<ProxyFault, string>> = {
  '5xx': 'HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n',
  garbage:
    'HTTP/1.1 200 OK\r\ncontent-length: 16\r\ninference-header-content-length: 7\r\n\r\n\u0001\u0002not a tensor..',
  'slow-drip': 'HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n',
};
const DRIP_MS = 20;

export class FaultProxy {
  #fault: ProxyFault | undefined;
  #server: Server | undefined;
  readonly #sockets = new Set<Socket>();

  private constructor(
    readonly port: number,
    private readonly target: URL,
  ) {}

  /** `target` is http://host:port. Error: BELFRY_PORT_TAKEN. */
  static async open(port: number, target: URL): Promise<FaultProxy> {
    const proxy = new FaultProxy(port, target);
    await proxy.#listen();
    return proxy;
  }

  /** From now on, on connections that are open too. */
  async begin(fault: ProxyFault): Promise<void> {
    this.#fault = fault;
    if (fault !== 'gone') return;
    const closed = this.#stopListening();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  /** What has been broken is lost; new connections reach the server. */
  async end(): Promise<void> {
    const wasGone = this.#fault === 'gone';
    this.#fault = undefined;
    for (const socket of this.#sockets) socket.destroy();
    if (wasGone) await this.#listen();
  }

  async close(): Promise<void> {
    const closed = this.#stopListening();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #listen(): Promise<void> {
    const server = createServer((socket) => this.#pass(socket));
    this.#server = server;
    return new Promise((resolve, reject) => {
      server.once('error', (error: NodeJS.ErrnoException) =>
        reject(
          new BelfryError('BELFRY_PORT_TAKEN', `--outage-proxy: port ${this.port} cannot be taken (${error.code})`, {
            field: '--outage-proxy',
            cause: error,
          }),
        ),
      );
      server.listen(this.port, '127.0.0.1', resolve);
    });
  }

  async #stopListening(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (server !== undefined) await new Promise((resolve) => server.close(resolve));
  }

  #pass(client: Socket): void {
    const server = connect({ host: this.target.hostname, port: Number(this.target.port || 80), noDelay: true });
    client.setNoDelay(true);
    for (const [one, other] of [
      [client, server],
      [server, client],
    ] as const) {
      this.#sockets.add(one);
      // A broken connection is what this proxy is for: its other half goes with it.
      one.on('error', () => undefined);
      one.once('close', () => {
        this.#sockets.delete(one);
        other.destroy();
      });
    }
    server.on('data', (chunk) => {
      if (this.#fault === undefined) client.write(chunk);
    });
    client.on('data', (chunk) => {
      if (this.#fault === undefined) server.write(chunk);
      else this.#fail(client, this.#fault);
    });
  }

  #fail(client: Socket, fault: ProxyFault): void {
    const answer = ANSWERS[fault];
    if (answer === undefined) return; // hung: taken, never answered
    client.write(answer);
    if (fault !== 'slow-drip') return void client.end();
    const timer = setInterval(() => client.write('x'), DRIP_MS);
    client.once('close', () => clearInterval(timer));
    client.removeAllListeners('data').resume();
  }
}
