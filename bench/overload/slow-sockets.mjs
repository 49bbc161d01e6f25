// Clients that hold a socket and do not get on with it: a third sends its head byte by byte, a third its body, a third nothing.
//   const slow = await SlowSockets.open(address, 1000); ... await slow.allClosed(ms) -> { closed, longestMs }
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

const DRIP_MS = 500;
const OPENING_MS = 1000;
const GROUP = 10;
const BODY_HEAD =
  'POST /retrieve HTTP/1.1\r\nhost: slow\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n{"user_id":"';
const HEAD = 'POST /retrieve HTTP/1.1\r\nhost: slow\r\nx-slow: ';
const KINDS = [
  { first: HEAD, drips: true },
  { first: BODY_HEAD, drips: true },
  { first: '', drips: false },
];

export class SlowSockets {
  #lives = [];
  #done;

  static async open(address, count) {
    const { hostname, port } = new URL(address);
    const slow = new SlowSockets();
    // A thousand in one moment would measure how fast connections are accepted, and expire in one moment too.
    const opened = [];
    for (let i = 0; i < count; i++) {
      if (i % GROUP === 0) await sleep((OPENING_MS * GROUP) / count);
      opened.push(slow.#open(hostname, Number(port), KINDS[i % KINDS.length]));
    }
    await Promise.all(opened);
    slow.#done = Promise.all(slow.#lives);
    return slow;
  }

  #open(host, port, { first, drips }) {
    return new Promise((resolve, reject) => {
      const socket = connect({ host, port }, () => {
        const started = performance.now();
        if (first !== '') socket.write(first);
        const drip = drips ? setInterval(() => socket.writable && socket.write('a'), DRIP_MS) : undefined;
        this.#lives.push(
          new Promise((closed) => {
            socket.once('close', () => {
              clearInterval(drip);
              closed(performance.now() - started);
            });
          }),
        );
        resolve();
      });
      socket.on('error', reject); // after it is open, only that the server has closed it
      socket.resume();
    });
  }

  /** @returns how many, and the life of the longest from its opening, ms */
  async allClosed() {
    const lives = await this.#done;
    return { closed: lives.length, longest_ms: Math.round(Math.max(...lives)) };
  }
}
