/** The process must survive a run that outlives its deadline: ending a thread inside ONNX Runtime aborts with 134. */
import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { workerFile } from '../../../src/inference/onnx-model.js';
import { modelPath } from '../../support/model-fixtures.js';

const script = (ending: string): string => `
  import { OnnxModel } from ${JSON.stringify(workerFile().replace('onnx-worker.js', 'onnx-model.js'))};
  const model = await OnnxModel.open({ name: 'slow', source: { path: ${JSON.stringify(modelPath('slow.onnx'))} } });
  const rounds = { dtype: 'int64', dims: [], data: new BigInt64Array([40000n]) };
  await model.run({ rounds }, { signal: AbortSignal.timeout(10) }).catch((error) => console.log(error.code, model.pending));
  ${ending}
  console.log('end');
`;

describe('a run that is abandoned', () => {
  it.each([
    ['and then the model is closed', 'await model.close();'],
    ['and then the process has nothing left to do', ''],
    ['and then close() is waited for before process.exit', 'await model.close(); console.log("end"); process.exit(0);'],
  ])('%s: exit code 0', (_, ending) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script(ending)], {
      encoding: 'utf8',
      timeout: 20_000,
    });
    expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: 'BELFRY_DEADLINE_EXCEEDED 1\nend\n', stderr: '' });
  });
});
