// The load of the HTTP bench, in a worker thread: connections that each send their next request when the last is answered
// (a closed loop). It reads of an answer its status, its length and whether it is degraded, so that it costs a few
// microseconds a request and is not what is measured.
//   { address, bodies, concurrency, seconds, warmSeconds, keep }
//   -> { seconds, latencies (ms), failed, codes (of failures), degraded, answers }
// keep: each body is sent once, and the answers come back in the order of the bodies.
import { connect } from 'node:net';
import { parentPort } from 'node:worker_threads';

const HEAD_END = Buffer.from('\r\n\r\n');
const LENGTHS = ['content-length: ', 'Content-Length: '].map((text) => Buffer.from(text));
const [ZERO, NINE] = [48, 57];
const PLAIN = Buffer.from('"degraded":[]');
const DEGRADED = Buffer.from('"degraded":[');

function requestBytes({ host }, body) {
  const text = JSON.stringify(body);
  const head = `POST /retrieve HTTP/1.1\r\nhost: ${host}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(text)}\r\n\r\n`;
  return Buffer.from(head + text);
}

function numberAt(bytes, start) {
  let number = 0;
  for (let at = start; bytes[at] >= ZERO && bytes[at] <= NINE; at++) number = 10 * number + bytes[at] - ZERO;
  return number;
}

function lengthIn(bytes) {
  for (const name of LENGTHS) {
    const at = bytes.indexOf(name);
    if (at >= 0) return numberAt(bytes, at + name.length);
  }
  throw new Error('an answer without a content-length');
}

class Lane {
  #pending = Buffer.alloc(0);

  /** @param {() => Buffer | undefined} next the bytes to send; undefined ends the lane */
  constructor({ hostname, port }, next, onAnswer) {
    this.next = next;
    this.onAnswer = onAnswer;
    this.done = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.socket = connect({ host: hostname, port: Number(port), noDelay: true }, () => this.#send());
      this.socket.on('data', (chunk) => this.#read(chunk));
      this.socket.on('error', reject);
      this.socket.on('close', () => reject(new Error('the server closed a connection')));
    });
  }

  #send() {
    const bytes = this.next(this);
    if (bytes === undefined) {
      this.resolve();
      this.socket.destroy();
      return;
    }
    this.sentAt = performance.now();
    this.socket.write(bytes);
  }

  #read(chunk) {
    const bytes = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    const headEnd = bytes.indexOf(HEAD_END);
    if (headEnd < 0 || bytes.length < headEnd + 4 + lengthIn(bytes)) {
      this.#pending = bytes;
      return;
    }
    this.#pending = Buffer.alloc(0);
    this.onAnswer(this, numberAt(bytes, 'HTTP/1.1 '.length), bytes.subarray(headEnd + 4));
    this.#send();
  }
}

async function run({ address, bodies, concurrency, seconds, warmSeconds, keep }) {
  const url = new URL(address);
  const requests = bodies.map((body) => requestBytes(url, body));
  const latencies = [];
  const answers = [];
  const codes = {};
  let [failed, degraded, sent] = [0, 0, 0];
  const begin = performance.now() + warmSeconds * 1000;
  const end = keep ? Infinity : begin + seconds * 1000;
  const next = (lane) => {
    if (keep ? sent >= requests.length : performance.now() >= end) return undefined;
    lane.position = sent++ % requests.length;
    return requests[lane.position];
  };
  const onAnswer = (lane, status, body) => {
    const now = performance.now();
    if (keep) answers[lane.position] = status === 200 ? JSON.parse(body.toString()) : { items: [] };
    if (now < begin || now > end) return;
    if (status !== 200) {
      failed++;
      const { code = `http ${status}` } = JSON.parse(body.toString());
      codes[code] = (codes[code] ?? 0) + 1;
      return;
    }
    latencies.push(now - lane.sentAt);
    if (body.indexOf(PLAIN) < 0 && body.indexOf(DEGRADED) >= 0) degraded++;
  };
  await Promise.all(Array.from({ length: concurrency }, () => new Lane(url, next, onAnswer).done));
  return { seconds, latencies: Float64Array.from(latencies), failed, codes, degraded, answers };
}

parentPort.on('message', (task) =>
  run(task).then(
    (result) => parentPort.postMessage({ result }),
    (error) => parentPort.postMessage({ error: error.message }),
  ),
);
