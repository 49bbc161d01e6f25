/** The bytes of the KServe v2 protocol: as the real Triton sends and takes them, and whatever else may come. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { datatypeOf, rawBytes } from '../../../src/rerank/kserve/datatypes.js';
import {
  decodeResponse,
  encodeRequest,
  FrameError,
  JSON_LENGTH_HEADER,
} from '../../../src/rerank/kserve/infer-frames.js';
import { readMetadata } from '../../../src/rerank/kserve/model-metadata.js';
import type { TensorData } from '../../../src/types.js';
import { dcnInputs, echoInputs, type Exchange, readRecorded } from '../../support/kserve-recorded.js';

const { exchanges, scores } = readRecorded();
const recorded = (path: string): Exchange => exchanges.find((one) => one.path === path)!;
const bodyOf = (base64: string): Buffer => Buffer.from(base64, 'base64');

describe('recorded exchanges with Triton', () => {
  it.each([
    ['dcn-v2', dcnInputs(), ['score']],
    ['echo', echoInputs(), Object.keys(echoInputs()).map((name) => `${name}_out`)],
  ])('%s: our request is byte for byte what Triton took', (model, inputs, outputs) => {
    const { headers, body } = encodeRequest('1', inputs, outputs, true);
    const sent = recorded(`/v2/models/${model}/infer`);
    expect(headers).toEqual(sent.headers);
    expect(Buffer.from(body).equals(bodyOf(sent.body!))).toBe(true);
  });

  it('the scores of DCN-v2 are those of PyTorch', () => {
    const { answer } = recorded('/v2/models/dcn-v2/infer');
    const { modelName, modelVersion, outputs } = decodeResponse(
      bodyOf(answer.body),
      answer.headers[JSON_LENGTH_HEADER],
    );
    expect([modelName, modelVersion]).toEqual(['dcn-v2', '1']);
    expect(outputs.score).toMatchObject({ dtype: 'float32', dims: [2, 1] });
    for (const [i, score] of scores.entries())
      expect(Math.abs((outputs.score!.data as Float32Array)[i]! - score)).toBeLessThan(1e-5);
  });

  it('every datatype comes back as it was sent', () => {
    const { answer } = recorded('/v2/models/echo/infer');
    const { outputs } = decodeResponse(bodyOf(answer.body), answer.headers[JSON_LENGTH_HEADER]);
    for (const [name, sent] of Object.entries(echoInputs())) expect(outputs[`${name}_out`], name).toEqual(sent);
  });

  it('metadata names inputs and outputs', () => {
    const metadata = readMetadata(JSON.parse(bodyOf(recorded('/v2/models/dcn-v2').answer.body).toString()));
    expect(metadata.inputs.slice(0, 2)).toEqual([
      { name: 'dense', dtype: 'float32', shape: [null, 5] },
      { name: 'sparse', dtype: 'int64', shape: [null, 56] },
    ]);
    expect(metadata.outputs).toEqual([{ name: 'score', dtype: 'float32', shape: [null, 1] }]);
    const echo = readMetadata(JSON.parse(bodyOf(recorded('/v2/models/echo').answer.body).toString()));
    expect(echo.inputs.map(({ dtype }) => dtype)).toEqual(Object.values(echoInputs()).map(({ dtype }) => dtype));
  });
});

/** An answer as a server writes it. */
function answerOf(tensors: Readonly<Record<string, TensorData>>): { body: Buffer; json: string } {
  const raws = Object.values(tensors).map((tensor) => Buffer.from(rawBytes(tensor)));
  const outputs = Object.entries(tensors).map(([name, { dtype, dims }], at) => ({
    name,
    datatype: datatypeOf(dtype).name,
    shape: dims,
    parameters: { binary_data_size: raws[at]!.length },
  }));
  const json = Buffer.from(JSON.stringify({ model_name: 'm', outputs }));
  return { body: Buffer.concat([json, ...raws]), json: String(json.length) };
}

const plain = (output: object, more: object = {}): Buffer =>
  Buffer.from(
    JSON.stringify({ model_name: 'm', outputs: [{ name: 'score', datatype: 'FP32', shape: [2], ...output }], ...more }),
  );

describe('an answer', () => {
  it('in JSON may be nested, and null is not a number', () => {
    const { outputs } = decodeResponse(plain({ shape: [2, 1], data: [[1.5], [null]], parameters: null }), undefined);
    expect(outputs.score).toEqual({ dtype: 'float32', dims: [2, 1], data: Float32Array.of(1.5, Number.NaN) });
  });

  it.each([
    ['no JSON', Buffer.from('<html>'), undefined, 'not JSON'],
    ['a list', Buffer.from('[]'), undefined, 'the answer: expected an object'],
    ['no outputs', Buffer.from('{}'), undefined, 'outputs: expected a list, received undefined'],
    ['a JSON length beyond the body', plain({ data: [1, 2] }), '9999', 'is "9999", and the body has'],
    ['a JSON length that is no number', plain({ data: [1, 2] }), '-1', 'is "-1"'],
    ['too few values', plain({ data: [1] }), undefined, 'output score: 2 values expected, received 1'],
    ['texts for numbers', plain({ data: ['1', '2'] }), undefined, 'expected numbers, received "1"'],
    ['a fraction in INT64', plain({ datatype: 'INT64', data: [1, 0.5] }), undefined, 'INT64 holds whole numbers'],
    ['FP16 in JSON', plain({ datatype: 'FP16', data: [1, 2] }), undefined, 'FP16 travels only as binary'],
    ['an unknown datatype', plain({ datatype: 'BF16', data: [1, 2] }), undefined, 'datatype "BF16" is not known'],
    ['a negative dim', plain({ shape: [-1], data: [] }), undefined, 'shape [-1] is none'],
    ['a shape beyond all memory', plain({ shape: [2 ** 52, 2 ** 52], data: [] }), undefined, 'is none'],
    [
      'more bytes announced than sent',
      plain({ parameters: { binary_data_size: 8 } }),
      undefined,
      '8 bytes announced, 0 are there',
    ],
    ['a size that is none', plain({ parameters: { binary_data_size: -4 } }), undefined, 'binary_data_size -4 is none'],
    [
      'an output twice',
      Buffer.from(
        '{"outputs":[{"name":"a","datatype":"FP32","shape":[0],"data":[]},{"name":"a","datatype":"FP32","shape":[0],"data":[]}]}',
      ),
      undefined,
      'output a stands twice',
    ],
  ])('API10: %s is refused', (_, body, length, message) => {
    expect(() => decodeResponse(body, length)).toThrow(FrameError);
    expect(() => decodeResponse(body, length)).toThrow(message);
  });

  it('API10: bytes of another number than the shape, cut off texts and bytes left over are refused', () => {
    const { body, json } = answerOf({ score: { dtype: 'float32', dims: [3], data: Float32Array.of(1, 2) } });
    expect(() => decodeResponse(body, json)).toThrow('FP32 [3] takes 12 bytes, received 8');
    const texts = answerOf({ names: { dtype: 'string', dims: [1], data: ['abc'] } });
    const cut = Buffer.from(texts.body);
    cut.writeUInt32LE(99, Number(texts.json));
    expect(() => decodeResponse(cut, texts.json)).toThrow('element 0 is cut off');
    expect(() => decodeResponse(Buffer.concat([texts.body, Buffer.from('x')]), texts.json)).toThrow('1 bytes follow');
  });

  it('round trips: any tensors, at any alignment', () => {
    const tensors = fc.dictionary(
      fc.string({ minLength: 1, maxLength: 8 }),
      fc.oneof(
        fc.float32Array({ maxLength: 9 }).map((data) => ({ dtype: 'float32' as const, data })),
        fc.float64Array({ maxLength: 9 }).map((data) => ({ dtype: 'float64' as const, data })),
        fc.uint16Array({ maxLength: 9 }).map((data) => ({ dtype: 'float16' as const, data })),
        fc.int32Array({ maxLength: 9 }).map((data) => ({ dtype: 'int32' as const, data })),
        fc.bigInt64Array({ maxLength: 9 }).map((data) => ({ dtype: 'int64' as const, data })),
        fc.uint8Array({ maxLength: 9, max: 1 }).map((data) => ({ dtype: 'bool' as const, data })),
        fc.array(fc.string({ unit: 'grapheme' }), { maxLength: 5 }).map((data) => ({ dtype: 'string' as const, data })),
      ),
      { maxKeys: 5, noNullPrototype: true },
    );
    fc.assert(
      fc.property(tensors, (made) => {
        const sent: Record<string, TensorData> = Object.fromEntries(
          Object.entries(made).map(([name, { dtype, data }]) => [name, { dtype, dims: [data.length], data }]),
        );
        const { body, json } = answerOf(sent);
        expect({ ...decodeResponse(body, json).outputs }).toEqual(sent);
      }),
      { numRuns: 300 },
    );
  });

  it('fuzz: bytes that are cut, flipped or added end in tensors that fit their shape, or in a FrameError', () => {
    const good = [
      ...exchanges
        .filter(({ method }) => method === 'POST')
        .map(({ answer }) => ({ body: bodyOf(answer.body), json: answer.headers[JSON_LENGTH_HEADER]! })),
      { body: plain({ data: [1, 2] }), json: String(plain({ data: [1, 2] }).length) },
    ];
    const change = fc.record({
      which: fc.nat(good.length - 1),
      flips: fc.array(fc.tuple(fc.nat(2000), fc.nat(255)), { maxLength: 4 }),
      cut: fc.nat(2000),
      tail: fc.uint8Array({ maxLength: 16 }),
      length: fc.oneof(fc.constant(undefined), fc.nat(3000).map(String), fc.string({ maxLength: 6 })),
      keepsLength: fc.boolean(),
    });
    let taken = 0;
    fc.assert(
      fc.property(change, ({ which, flips, cut, tail, length, keepsLength }) => {
        const { body: whole, json } = good[which]!;
        const body = Buffer.concat([whole.subarray(0, cut % 3 === 0 ? cut : undefined), tail]);
        for (const [at, value] of flips) if (at < body.length) body[at] = value;
        try {
          const { outputs } = decodeResponse(body, keepsLength ? json : length);
          taken++;
          for (const { dims, data } of Object.values(outputs))
            expect(data.length).toBe(dims.reduce((a, b) => a * b, 1));
        } catch (error) {
          if (!(error instanceof FrameError)) throw error;
        }
      }),
      { numRuns: 3000 },
    );
    expect(taken).toBeGreaterThan(10);
  });

  it('fuzz: any JSON as an answer or as metadata', () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 5 }), (text) => {
        for (const read of [
          () => decodeResponse(Buffer.from(`{"outputs":[${text}]}`), undefined),
          () => readMetadata(JSON.parse(text)),
        ]) {
          try {
            read();
          } catch (error) {
            if (!(error instanceof FrameError)) throw error;
          }
        }
      }),
      { numRuns: 1000 },
    );
    const deep = `{"outputs":[{"name":"a","datatype":"FP32","shape":[1],"data":${'['.repeat(50_000)}${']'.repeat(50_000)}}]}`;
    expect(() => decodeResponse(Buffer.from(deep), undefined)).toThrow(FrameError);
  });
});

it('float16 as JSON is refused before it is sent', () => {
  const { fp16 } = echoInputs();
  expect(() => encodeRequest('1', { fp16: fp16! }, ['out'], false)).toThrow(
    'input fp16: float16 travels only as binary tensor data',
  );
});
