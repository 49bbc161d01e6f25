import { copyFileSync, readFileSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { extractSubgraph, findUserOutput, inputsFor } from '../../../src/inference/onnx-extract.js';
import { loadOnnx } from '../../../src/inference/onnx-file.js';
import { type OnnxGraph, readOnnx, summarize } from '../../../src/inference/onnx-graph.js';
import { OnnxModel } from '../../../src/inference/onnx-model.js';
import { expectError } from '../../support/expect-error.js';
import { temporaryFolder } from '../../support/folders.js';
import { expectClose, expected, feedsOf, modelPath, tensor } from '../../support/model-fixtures.js';

const bytes = readFileSync(modelPath('two_tower.onnx'));
const open: OnnxModel[] = [];
afterEach(async () => {
  for (const model of open.splice(0)) await model.close();
});
const run = async (source: Uint8Array): Promise<OnnxModel> => {
  const model = await OnnxModel.open({ name: 'cut', source: { bytes: source } });
  open.push(model);
  return model;
};

/** A graph of the given outputs, each from its own inputs through one node. */
function graphOf(outputs: Record<string, string[]>): OnnxGraph {
  const inputs = [...new Set(Object.values(outputs).flat())];
  const value = (name: string) => ({ name, dtype: 'float32' as const, shape: null, raw: new Uint8Array(0) });
  return {
    nodes: Object.entries(outputs).map(([name, reads]) => ({
      opType: 'Sum',
      domain: '',
      inputs: reads,
      outputs: [name],
      subgraphs: [],
      tensors: [],
      raw: new Uint8Array(0),
    })),
    initializers: [],
    sparseInitializers: [],
    declaredInputs: inputs.map(value),
    inputs: inputs.map(value),
    outputs: Object.keys(outputs).map(value),
    values: [],
    rest: [],
  };
}

describe('cutting a combined two_tower.onnx', () => {
  it('keeps what the user output needs, with names that only an If body reads', () => {
    const cut = readOnnx(extractSubgraph(bytes, 'user_embedding'), 'cut');
    expect(cut.graph.inputs.map((input) => input.name)).toEqual(['user_history', 'user_dense']);
    expect(cut.graph.outputs.map((output) => output.name)).toEqual(['user_embedding']);
    expect(cut.graph.initializers.map((initializer) => initializer.name).sort()).toEqual([
      'shared_scale',
      'shared_table',
      'user_shift',
      'user_w',
      'zero',
    ]);
    expect(cut.graph.values.map((value) => value.name)).toEqual(['user_hidden']);
    expect(summarize(cut).opsets).toEqual([{ domain: '', version: 17 }]);
  });

  it('answers what the whole graph answers, on both sides of the If', async () => {
    const model = await run(extractSubgraph(bytes, 'user_embedding'));
    expect(model.info.inputs.map((input) => input.name)).toEqual(['user_history', 'user_dense']);
    for (const recorded of expected.two_tower!) {
      const { outputs } = await model.run(feedsOf(recorded, model.info.inputs));
      expectClose(outputs.user_embedding!.data as Float32Array, recorded.outputs.user_embedding!.data);
    }
  });

  it('cuts the item tower as well', async () => {
    const model = await run(extractSubgraph(bytes, 'item_embedding'));
    const { outputs } = await model.run({ item_index: tensor('int64', [2], [3, 4]) });
    expect(outputs.item_embedding!.dims).toEqual([2, 8]);
  });

  it('refuses an output that the graph does not have', async () => {
    await expectError(
      () => extractSubgraph(bytes, 'nope', 'm'),
      'BELFRY_BINDING_MISMATCH',
      'model m: output nope is not in the graph',
    );
  });
});

describe('which output is the user embedding?', () => {
  const { graph } = readOnnx(bytes, 'm');

  it('the declared one, else the one named after the user', () => {
    expect(findUserOutput(graph, 'm', 'item_embedding')).toEqual({
      name: 'item_embedding',
      inputs: ['item_index'],
      isWholeGraph: false,
    });
    expect(findUserOutput(graph, 'm')).toEqual({
      name: 'user_embedding',
      inputs: ['user_history', 'user_dense'],
      isWholeGraph: false,
    });
  });

  it('the only one, and then there is nothing to cut', () => {
    const tower = readOnnx(readFileSync(modelPath('user_tower.onnx')), 'm').graph;
    expect(findUserOutput(tower, 'm')).toEqual({
      name: 'user_embedding',
      inputs: ['user_features'],
      isWholeGraph: true,
    });
  });

  it('the one that depends on user inputs alone, when names do not tell', () => {
    expect(findUserOutput(graphOf({ out_0: ['user_x'], out_1: ['item_x'] }), 'm').name).toBe('out_0');
    expect(inputsFor(graphOf({ out_0: ['user_x'], out_1: ['item_x'] }), 'out_1')).toEqual(['item_x']);
  });

  it('is an error with the list when it cannot tell', async () => {
    await expectError(
      () => findUserOutput(graphOf({ a: ['x'], b: ['y'] }), 'm'),
      'BELFRY_BINDING_MISMATCH',
      'model m: cannot tell which output is the user embedding; the graph has: a (from x); b (from y); name it as `output:` in registry.yaml',
    );
    await expectError(
      () => findUserOutput(graph, 'm', 'nope'),
      'BELFRY_BINDING_MISMATCH',
      'output nope is not in the graph, which has: user_embedding (from user_history, user_dense)',
    );
  });
});

describe('external data (fault M4)', () => {
  const folderWith = (location: string): string => {
    const folder = temporaryFolder();
    const from = Buffer.from('external.onnx.data');
    const model = readFileSync(modelPath('external.onnx'));
    const at = model.indexOf(from);
    // A name of the same length keeps every length field of the file right.
    model.write(location.padEnd(from.length, 'x'), at);
    writeFileSync(join(folder, 'external.onnx'), model);
    copyFileSync(modelPath('external.onnx.data'), join(folder, 'external.onnx.data'));
    return folder;
  };

  it('is read in place, and pulled into a cut graph', async () => {
    const file = await loadOnnx(modelPath('external.onnx'), 'm');
    const x = { x: tensor('float32', [1, 4], [1, 1, 1, 1]) };
    const cut = await run(extractSubgraph(file.bytes, 'user_embedding', 'm', file.readExternal));
    expectClose((await cut.run(x)).outputs.user_embedding!.data as Float32Array, [1, 2, 3, 4]);
    const whole = await OnnxModel.open({ name: 'm', source: { path: modelPath('external.onnx') } });
    open.push(whole);
    const both = await whole.run({ ...x, z: tensor('float32', [1, 4], [0, 0, 0, 0]) });
    expectClose(both.outputs.user_embedding!.data as Float32Array, [1, 2, 3, 4]);
  });

  it.each([
    ['../etc/passwd.data', 'leaves the folder'],
    ['/etc/passwd.datax', 'is an absolute path'],
    ['no-such-file.datax', 'is missing'],
  ])('refuses %s', async (location, reason) => {
    const path = join(folderWith(location), 'external.onnx');
    const error = await expectError(OnnxModel.open({ name: 'm', source: { path } }), 'BELFRY_MODEL_INVALID', reason);
    expect(error.message).toContain('it must be a file in the folder of the model');
  });

  it('refuses a link out of the folder, and a file that is too short', async () => {
    const folder = folderWith('link-to-away.datax');
    symlinkSync(modelPath('external.onnx.data'), join(folder, 'link-to-away.datax'));
    await expectError(
      loadOnnx(join(folder, 'external.onnx'), 'm'),
      'BELFRY_MODEL_INVALID',
      'is a link that leaves the folder',
    );
    const short = folderWith('external.onnx.data');
    truncateSync(join(short, 'external.onnx.data'), 10);
    const file = await loadOnnx(join(short, 'external.onnx'), 'm');
    await expectError(
      () => extractSubgraph(file.bytes, 'user_embedding', 'm', file.readExternal),
      'BELFRY_MODEL_INVALID',
      'tensor w needs 64 bytes at 0 of external.onnx.data, which has 10 bytes',
    );
    await expectError(
      () => extractSubgraph(file.bytes, 'user_embedding', 'm'),
      'BELFRY_MODEL_INVALID',
      'tensor w lies in external.onnx.data',
    );
  });
});
