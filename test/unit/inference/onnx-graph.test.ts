import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BelfryError } from '../../../src/errors.js';
import { externalTensors, readOnnx, specOf, summarize } from '../../../src/inference/onnx-graph.js';
import { fieldsOf, lengthDelimited, varintBytes } from '../../../src/inference/protobuf-wire.js';
import { expectError } from '../../support/expect-error.js';
import { modelPath } from '../../support/model-fixtures.js';

const read = (name: string) => readOnnx(readFileSync(modelPath(name)), name);

describe('what an ONNX file holds', () => {
  it('lists inputs and outputs with dtypes, and null for dynamic dims', () => {
    const { graph } = read('two_tower.onnx');
    expect(graph.inputs.map(specOf)).toEqual([
      { name: 'user_history', dtype: 'int64', shape: [null, 4] },
      { name: 'user_dense', dtype: 'float32', shape: [null, 2] },
      { name: 'item_index', dtype: 'int64', shape: [null] },
    ]);
    expect(graph.outputs.map((output) => output.name)).toEqual(['user_embedding', 'item_embedding']);
  });

  it('counts operators, also inside subgraphs, and parameters', () => {
    const summary = summarize(read('two_tower.onnx'));
    expect(summary.ops).toMatchObject({ Gather: 2, MatMul: 2, If: 1, Add: 1, Mul: 1 });
    expect(summary.nodes).toBe(13);
    expect(summary.parameters).toBe(12 * 6 + 8 * 8 + 8 + 8 + 6 * 8 + 1);
    expect(summary.parameterBytes).toBe(summary.parameters * 4);
    expect(summary).toMatchObject({
      irVersion: 9,
      producer: 'belfry-test',
      opsets: [{ domain: '', version: 17 }],
      externalFiles: [],
    });
  });

  it('knows every dtype that a binding can feed, and scalars', () => {
    expect(read('dtypes.onnx').graph.inputs.map((input) => input.dtype)).toEqual([
      'float32',
      'float64',
      'float16',
      'int32',
      'int64',
      'bool',
    ]);
    expect(specOf(read('slow.onnx').graph.inputs[0]!)).toEqual({ name: 'rounds', dtype: 'int64', shape: [] });
  });

  it('sees tensors that lie in other files', () => {
    const tensors = externalTensors(read('external.onnx').graph);
    expect(tensors.map(({ name, external }) => [name, external])).toEqual([
      ['w', { location: 'external.onnx.data', offset: 0, length: 64 }],
    ]);
  });
});

describe('malformed files', () => {
  it('refuses what is not ONNX', async () => {
    await expectError(() => readOnnx(new Uint8Array(0), 'm'), 'BELFRY_MODEL_INVALID', 'model m: the file is empty');
    await expectError(
      () => readOnnx(new TextEncoder().encode('PK\u0003\u0004 not a model'), 'm'),
      'BELFRY_MODEL_INVALID',
      'not a well-formed ONNX file',
    );
    await expectError(
      () => readOnnx(lengthDelimited(2, 'pytorch'), 'm'),
      'BELFRY_MODEL_INVALID',
      'no graph or no IR version',
    );
  });

  it('refuses every truncation of a real model, or reads a shorter but well-formed one, without a hang', () => {
    const bytes = readFileSync(modelPath('two_tower.onnx'));
    let refused = 0;
    for (let length = 0; length < bytes.length; length++) {
      try {
        readOnnx(bytes.subarray(0, length), 'm');
      } catch (error) {
        expect((error as BelfryError).code).toBe('BELFRY_MODEL_INVALID');
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(bytes.length * 0.99);
  });

  it('meets random bytes and flipped bits with BELFRY_MODEL_INVALID or a graph, never another error', () => {
    const good = readFileSync(modelPath('two_tower.onnx'));
    const isFine = (bytes: Uint8Array): void => {
      try {
        summarize(readOnnx(bytes, 'm'));
      } catch (error) {
        expect(error).toBeInstanceOf(BelfryError);
        expect((error as BelfryError).code).toBe('BELFRY_MODEL_INVALID');
      }
    };
    fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), isFine), { numRuns: 2000 });
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 6 }), (flips) => {
        const bytes = Uint8Array.from(good);
        for (const [at, value] of flips) bytes[at] = value;
        isFine(bytes);
      }),
      { numRuns: 2000 },
    );
  });

  it('stops at subgraphs nested deeper than any real model', async () => {
    let graph: Uint8Array = lengthDelimited(2, 'inner');
    for (let depth = 0; depth < 40; depth++) graph = lengthDelimited(1, lengthDelimited(5, lengthDelimited(6, graph)));
    const model = Uint8Array.from([8, 9, ...lengthDelimited(7, graph)]);
    await expectError(() => readOnnx(model, 'm'), 'BELFRY_MODEL_INVALID', 'nested deeper than 32');
  });

  it('refuses sizes that overflow', async () => {
    const huge = [8, ...varintBytes(2 ** 40)];
    const tensor = Uint8Array.from([...huge, ...huge, ...lengthDelimited(8, 'w')]);
    const model = Uint8Array.from([8, 9, ...lengthDelimited(7, lengthDelimited(5, tensor))]);
    await expectError(() => readOnnx(model, 'm'), 'BELFRY_MODEL_INVALID', 'tensor w has more than 2^53 elements');
  });
});

describe('the wire level', () => {
  it('reads back what it writes, at every varint length', () => {
    for (const value of [0, 1, 127, 128, 2 ** 28, 2 ** 31, 2 ** 32, 2 ** 35 + 1, 2 ** 53 - 1]) {
      expect([...fieldsOf(Uint8Array.from([8, ...varintBytes(value)]))][0]!.value).toBe(value);
    }
    expect([...fieldsOf(Uint8Array.from([8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]))][0]!.value).toBe(-1);
  });

  it.each([
    ['a varint without end', [8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1], /longer than 10 bytes/],
    ['a varint cut off', [8, 255], /runs past the end/],
    ['a length past the end', [10, 200, 1, 0], /200 bytes runs past the end/],
    ['a group', [11], /wire type 3/],
    ['field number 0', [0, 1], /field number 0/],
  ])('refuses %s', (_, bytes, message) => {
    expect(() => [...fieldsOf(Uint8Array.from(bytes))]).toThrow(message);
  });
});
