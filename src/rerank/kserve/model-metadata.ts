/** What a server says of a model: `GET /v2/models/NAME`. */
import type { TensorSpec } from '../../types.js';
import { datatypeNamed } from './datatypes.js';
import { FrameError, listOf, objectOf, textOf } from './infer-frames.js';

export interface ModelMetadata {
  readonly name: string;
  /** As the server lists them; empty where it lists none. */
  readonly versions: readonly string[];
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
}

/** Error: FrameError. */
export function readMetadata(value: unknown): ModelMetadata {
  const { name, versions, inputs, outputs } = objectOf(value, 'model metadata');
  return {
    name: textOf(name, 'name'),
    versions: versions === undefined || versions === null ? [] : listOf(versions, 'versions').map(String),
    inputs: listOf(inputs, 'inputs').map((one, at) => tensorSpec(one, `inputs[${at}]`)),
    outputs: listOf(outputs, 'outputs').map((one, at) => tensorSpec(one, `outputs[${at}]`)),
  };
}

function tensorSpec(value: unknown, at: string): TensorSpec {
  const { name, datatype, shape } = objectOf(value, at);
  const dims = listOf(shape, `${at}.shape`).map((dim) => {
    const size = Number(dim); // Some servers write dims as texts.
    if (!Number.isSafeInteger(size)) throw new FrameError(`${at}.shape: expected whole numbers`);
    return size < 0 ? null : size;
  });
  return {
    name: textOf(name, `${at}.name`),
    dtype: datatypeNamed(textOf(datatype, `${at}.datatype`))?.dtype ?? 'other',
    // Some servers list no dims at all for a tensor of any shape.
    shape: dims.length === 0 ? null : dims,
  };
}
