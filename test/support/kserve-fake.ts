/**
 * A strict KServe v2 server, written from the specification and not from our client: it refuses requests that break the
 * protocol, and can be told to fail in all the ways in which servers do. Scores are retrieval score times two plus one.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';

export type Fault =
  | 'hung'
  | 'slow drip'
  | '500'
  | '503'
  | 'garbage'
  | 'short tensor'
  | 'wrong shape'
  | 'wrong dtype'
  | 'NaN'
  | 'some NaN'
  | 'reset'
  | 'too large'
  | 'redirect'
  | 'other version';

export interface FakeTensor {
  readonly name: string;
  readonly datatype: string;
  readonly shape: readonly number[];
}

export interface FakeOptions {
  readonly model?: string;
  readonly versions?: readonly string[];
  readonly inputs: readonly FakeTensor[];
  readonly outputs?: readonly FakeTensor[];
  readonly extensions?: readonly string[];
  /** Time of one inference, milliseconds. */
  readonly delayMs?: number;
}

interface Parsed {
  /** Bytes, or JSON values, of each input. */
  readonly inputs: Record<string, { datatype: string; shape: number[]; raw?: Buffer; data?: unknown[] }>;
  readonly outputs: { name: string; isBinary: boolean }[];
}

const WIDTH: Record<string, number> = { FP16: 2, FP32: 4, FP64: 8, INT32: 4, INT64: 8, BOOL: 1 };

export class KserveFake {
  fault: Fault | undefined;
  /** Also of health and metadata. */
  faultEverywhere = false;
  infers = 0;
  /** Inferences that ended in a fault. */
  failed = 0;
  /** Metadata is answered for versions that are not there, as some servers do. */
  listsAnyVersion = false;
  /** Requests that broke the protocol; a test expects none. */
  readonly refused: string[] = [];
  readonly seen: { path: string; headers: IncomingMessage['headers']; parsed?: Parsed }[] = [];
  options: FakeOptions;
  #server: Server | undefined;
  readonly #sockets = new Set<Socket>();
  #port = 0;

  constructor(options: FakeOptions) {
    this.options = options;
  }

  static async start(options: FakeOptions): Promise<KserveFake> {
    const fake = new KserveFake(options);
    await fake.listen();
    return fake;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  get connections(): number {
    return this.#sockets.size;
  }

  /** The same port again after `stop`. */
  async listen(): Promise<void> {
    this.#server = createServer((request, response) => {
      this.#answer(request, response).catch((error: unknown) => {
        this.refused.push(String(error));
        response.destroy();
      });
    });
    this.#server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
    await new Promise<void>((resolve) => this.#server!.listen(this.#port, '127.0.0.1', resolve));
    this.#port = (this.#server.address() as AddressInfo).port;
  }

  /** Gone: connections break, new ones are refused. */
  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server?.close(resolve));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url!;
    const body = await bodyOf(request);
    const isInfer = path.endsWith('/infer');
    if (this.fault !== undefined && (isInfer || this.faultEverywhere))
      return this.#fail(this.fault, response, path, body);
    this.seen.push({ path, headers: request.headers, ...(isInfer ? { parsed: this.#parse(request, body) } : {}) });
    const {
      model = 'dcn-v2',
      versions = ['1'],
      inputs,
      outputs = SCORE,
      extensions = ['binary_tensor_data'],
    } = this.options;
    if (request.method === 'GET') {
      if (path === '/v2/health/live' || path === '/v2/health/ready') return send(response, 200, '');
      if (path === '/v2') return json(response, 200, { name: 'fake', version: '2.0', extensions });
      const [, name, version, tail] = /^\/v2\/models\/([^/]+)(?:\/versions\/([^/]+))?(\/ready)?$/.exec(path) ?? [];
      if (name !== model || (version !== undefined && !versions.includes(version) && !this.listsAnyVersion))
        return json(response, 404, { error: `Request for unknown model: '${name}' is not found` });
      if (tail !== undefined) return send(response, 200, '');
      return json(response, 200, { name: model, versions, platform: 'fake', inputs, outputs });
    }
    if (!isInfer || request.method !== 'POST') return json(response, 404, { error: 'not found' });
    this.infers++;
    const parsed = this.seen.at(-1)!.parsed!;
    if (this.options.delayMs !== undefined) await new Promise((resolve) => setTimeout(resolve, this.options.delayMs));
    return this.#score(parsed, response);
  }

  #score({ inputs, outputs }: Parsed, response: ServerResponse): void {
    const rows = Object.values(inputs)[0]!.shape[0]!;
    const scores = new Float32Array(rows);
    const input = inputs.dense ?? Object.values(inputs)[0]!;
    const width = input.shape[1] ?? 1;
    for (let row = 0; row < rows; row++) {
      const value = input.raw === undefined ? Number(input.data![row * width]) : input.raw.readFloatLE(row * width * 4);
      scores[row] = value * 2 + 1;
    }
    if (this.fault === undefined) return respond(response, outputs[0]!.isBinary, scores, [rows]);
  }

  #fail(fault: Fault, response: ServerResponse, path: string, body: Buffer): void {
    this.failed++;
    const rows = rowsOf(body);
    const nan = new Float32Array(rows).fill(Number.NaN);
    switch (fault) {
      case 'hung':
        return;
      case 'slow drip': {
        response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': 100_000 });
        const timer = setInterval(() => response.write('x'), 10);
        response.once('close', () => clearInterval(timer));
        return;
      }
      case '500':
      case '503':
        return json(response, Number(fault), { error: 'out of memory on device' });
      case 'garbage':
        return send(response, 200, Buffer.from('\u0000\u0001 not a tensor'), {
          'inference-header-content-length': '999',
        });
      case 'short tensor':
        return respond(response, true, new Float32Array(1), [rows]);
      case 'wrong shape':
        return respond(response, true, new Float32Array(rows + 1), [rows + 1]);
      case 'wrong dtype':
        return respond(response, true, new Float32Array(rows), [rows], 'INT32');
      case 'NaN':
        return respond(response, true, nan, [rows]);
      case 'some NaN':
        return respond(response, true, nan.fill(1, 1), [rows]);
      case 'reset':
        response.socket!.resetAndDestroy();
        return;
      case 'too large': {
        response.writeHead(200, { 'content-type': 'application/octet-stream' });
        const piece = Buffer.alloc(1 << 20);
        const push = () => {
          while (!response.destroyed && response.write(piece));
        };
        response.on('drain', push);
        return push();
      }
      case 'redirect':
        return send(response, 307, '', { location: `${this.url}/elsewhere${path}` });
      case 'other version':
        return respond(response, true, new Float32Array(rows), [rows], 'FP32', '9');
    }
  }

  /** Reads a request as the specification says it must be. */
  #parse(request: IncomingMessage, body: Buffer): Parsed {
    const refuse = (why: string): never => {
      this.refused.push(why);
      throw new Error(why);
    };
    const header = request.headers['inference-header-content-length'];
    const end = header === undefined ? body.length : Number(header);
    if (!(end <= body.length)) refuse(`header length ${header} of ${body.length}`);
    const { inputs, outputs = [] } = JSON.parse(body.toString('utf8', 0, end)) as {
      inputs: {
        name: string;
        datatype: string;
        shape: number[];
        data?: unknown[];
        parameters?: { binary_data_size?: number };
      }[];
      outputs?: { name: string; parameters?: { binary_data?: boolean } }[];
    };
    const parsed: Parsed['inputs'] = {};
    let at = end;
    for (const { name, datatype, shape, data, parameters } of inputs) {
      const declared = this.options.inputs.find((one) => one.name === name);
      if (declared === undefined) return refuse(`unexpected inference input '${name}'`);
      if (declared.datatype !== datatype) refuse(`input ${name} is ${datatype}, expected ${declared.datatype}`);
      const fits =
        shape.length === declared.shape.length &&
        shape.every((dim, i) => declared.shape[i]! < 0 || dim === declared.shape[i]);
      if (!fits) refuse(`input ${name} has shape ${shape}, expected ${declared.shape}`);
      const count = shape.reduce((product, dim) => product * dim, 1);
      const size = parameters?.binary_data_size;
      if (size === undefined) {
        if (data?.length !== count) refuse(`input ${name} has ${data?.length} values, expected ${count}`);
        parsed[name] = { datatype, shape, data: data as unknown[] };
        continue;
      }
      if (data !== undefined) refuse(`input ${name} has data and binary_data_size`);
      if (size !== count * WIDTH[datatype]!) refuse(`input ${name} has ${size} bytes, expected ${count} ${datatype}`);
      parsed[name] = { datatype, shape, raw: Buffer.from(body.subarray(at, at + size)) };
      at += size;
    }
    if (inputs.length !== this.options.inputs.length) refuse(`${inputs.length} inputs`);
    if (at !== body.length) refuse(`${body.length - at} bytes left over`);
    return {
      inputs: parsed,
      outputs: outputs.map(({ name, parameters }) => ({ name, isBinary: parameters?.binary_data === true })),
    };
  }
}

const SCORE: readonly FakeTensor[] = [{ name: 'score', datatype: 'FP32', shape: [-1] }];

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

function rowsOf(body: Buffer): number {
  return Number(/"shape":\[(\d+)/.exec(body.toString('latin1', 0, 4096))?.[1] ?? 1);
}

function send(
  response: ServerResponse,
  status: number,
  body: Buffer | string,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { 'content-length': String(Buffer.byteLength(body)), ...headers }).end(body);
}

function json(response: ServerResponse, status: number, body: unknown): void {
  send(response, status, JSON.stringify(body), { 'content-type': 'application/json' });
}

function respond(
  response: ServerResponse,
  isBinary: boolean,
  scores: Float32Array,
  shape: readonly number[],
  datatype = 'FP32',
  version = '1',
): void {
  const raw = Buffer.from(scores.buffer);
  const output = isBinary
    ? { name: 'score', datatype, shape, parameters: { binary_data_size: raw.length } }
    : { name: 'score', datatype, shape, data: [...scores] };
  const head = JSON.stringify({ model_name: 'dcn-v2', model_version: version, outputs: [output] });
  if (!isBinary) return send(response, 200, head, { 'content-type': 'application/json' });
  send(response, 200, Buffer.concat([Buffer.from(head), raw]), {
    'content-type': 'application/octet-stream',
    'inference-header-content-length': String(Buffer.byteLength(head)),
  });
}
