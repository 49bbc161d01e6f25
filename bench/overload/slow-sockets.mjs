// Clients that hold a socket and do not get on with it: a third sends its head byte by byte, a third its body, a third nothing.
// In a process of their own, so that their timers do not hold up the load beside them.
//   const slow = SlowSockets.start(); await slow.open(address, 1000); await slow.allClosed() -> { closed, longest_ms }; slow.stop()
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const DRIP_MS = 500;
/** Drips are spread evenly: many in one moment would be a burst of requests, which is another test. */
const TICK_MS = 5;
/** A thousand in one moment would measure how fast connections are accepted, and expire in one moment too. */
export const OPENING_MS = 1000;
const BODY_HEAD =
  'POST /retrieve HTTP/1.1\r\nhost: slow\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n{"user_id":"';
const HEAD = 'POST /retrieve HTTP/1.1\r\nhost: slow\r\nx-slow: ';
const KINDS = [
  { first: HEAD, drips: true },
  { first: BODY_HEAD, drips: true },
  { first: '', drips: false },
];

export class SlowSockets {
  #child = fork(fileURLToPath(import.meta.url), { stdio: 'inherit' });

  static start() {
    return new SlowSockets();
  }

  /** Resolves when all are open. */
  async open(address, count) {
    this.#child.send({ address, count });
    await this.#told('opened');
  }

  /** @returns how many, and the life of the longest from its opening, ms */
  async allClosed() {
    const { lives } = await this.#told('lives');
    return { closed: lives.length, longest_ms: Math.round(Math.max(...lives)) };
  }

  stop() {
    this.#child.kill();
  }

  async #told(what) {
    for (;;) {
      const [message] = await once(this.#child, 'message');
      if ('error' in message) throw new Error(`slow sockets: ${message.error}`);
      if (what in message) return message;
    }
  }
}

/** Resolves, when it is open, to `life`: a promise of the milliseconds until the server closed it. */
function open(host, port, { first, drips }, dripping) {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port }, () => {
      const started = performance.now();
      if (first !== '') socket.write(first);
      if (drips) dripping.push(socket);
      resolve({ life: new Promise((closed) => socket.once('close', () => closed(performance.now() - started))) });
    });
    socket.on('error', reject); // after it is open, only that the server has closed it
    socket.resume();
  });
}

async function hold({ address, count }) {
  const { hostname, port } = new URL(address);
  const dripping = [];
  let at = 0;
  const drip = setInterval(() => {
    const many = Math.ceil((dripping.length * TICK_MS) / DRIP_MS);
    for (let i = 0; i < many; i++) {
      const socket = dripping[at++ % dripping.length];
      if (socket.writable) socket.write('a');
    }
  }, TICK_MS);
  const began = performance.now();
  const opened = [];
  for (let i = 0; i < count; i++) {
    const due = began + (OPENING_MS * i) / count;
    if (due - performance.now() > 1) await sleep(due - performance.now());
    opened.push(open(hostname, Number(port), KINDS[i % KINDS.length], dripping));
  }
  const sockets = await Promise.all(opened);
  process.send({ opened: sockets.length });
  process.send({ lives: await Promise.all(sockets.map(({ life }) => life)) });
  clearInterval(drip);
}

if (process.send !== undefined && process.argv[1] === fileURLToPath(import.meta.url))
  process.on('message', (task) => hold(task).catch((error) => process.send({ error: error.message })));
