/**
 * The bytes of an inference of the KServe v2 protocol over HTTP: plain JSON, or the binary tensor data extension (JSON
 * first, then raw tensors in the order of the JSON, little-endian, row-major, whole).
 * Source: https://github.com/kserve/open-inference-protocol and Triton's extension_binary_data.md.
 */
import { BelfryError, show } from '../../errors.js';
import type { TensorData, TensorValues } from '../../types.js';
import { type Datatype, datatypeNamed, datatypeOf, elementsOf, rawBytes } from './datatypes.js';

/** Length of the JSON before the raw tensors, in bytes; absent when all is JSON. */
export const JSON_LENGTH_HEADER = 'inference-header-content-length';

export interface InferFrame {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
}

/** Levels of lists that JSON values may be nested in: no tensor has more dims. */
const NESTING_MAX = 8;

/** An answer of a server that breaks the protocol; `what` says how. */
export class FrameError extends Error {}

/** A request for the named outputs; `id` comes back in the answer, and some servers refuse to answer without one. Error: BELFRY_MODEL_FAILED for float16 as JSON, which the protocol cannot write. */
export function encodeRequest(
  id: string,
  inputs: Readonly<Record<string, TensorData>>,
  outputs: readonly string[],
  isBinary: boolean,
): InferFrame {
  const tensors = Object.entries(inputs).map(([name, tensor]) => ({ name, tensor, raw: rawBytes(tensor) }));
  const json = Buffer.from(
    JSON.stringify({
      id,
      inputs: tensors.map(({ name, tensor, raw }) => ({
        name,
        shape: tensor.dims,
        datatype: datatypeOf(tensor.dtype).name,
        ...(isBinary ? { parameters: { binary_data_size: raw.byteLength } } : { data: jsonValues(name, tensor) }),
      })),
      outputs: outputs.map((name) => ({ name, ...(isBinary ? { parameters: { binary_data: true } } : {}) })),
    }),
  );
  if (!isBinary) return { headers: { 'content-type': 'application/json' }, body: json };
  return {
    headers: { 'content-type': 'application/octet-stream', [JSON_LENGTH_HEADER]: String(json.byteLength) },
    body: Buffer.concat([json, ...tensors.map(({ raw }) => raw)]),
  };
}

function jsonValues(name: string, { dtype, data }: TensorData): unknown[] {
  if (dtype === 'float16') {
    throw new BelfryError('BELFRY_MODEL_FAILED', `input ${name}: float16 travels only as binary tensor data`);
  }
  if (dtype === 'bool') return Array.from(data as Uint8Array, (value) => value !== 0);
  // Indices are far below 2^53; a larger one would be rounded by any JSON reader, so by ours first.
  if (data instanceof BigInt64Array || data instanceof BigUint64Array) return Array.from(data, Number);
  return Array.from(data as ArrayLike<number | string>);
}

export interface InferAnswer {
  readonly modelName: string;
  readonly modelVersion: string | undefined;
  readonly outputs: Readonly<Record<string, TensorData>>;
}

/**
 * The tensors of an answer, each checked against its own shape and the bytes that are there: nothing of an answer is
 * trusted. `jsonLength` is the value of JSON_LENGTH_HEADER. Error: FrameError.
 */
export function decodeResponse(body: Uint8Array, jsonLength: string | undefined): InferAnswer {
  const end = jsonLength === undefined ? body.byteLength : lengthOfJson(jsonLength, body.byteLength);
  const answer = objectOf(parseJson(body.subarray(0, end)), 'the answer');
  const raw = body.subarray(end);
  const outputs: Record<string, TensorData> = Object.create(null) as Record<string, TensorData>;
  let at = 0;
  for (const [position, entry] of listOf(answer.outputs, 'outputs').entries()) {
    const output = objectOf(entry, `outputs[${position}]`);
    const name = textOf(output.name, `outputs[${position}].name`);
    const type = datatypeNamed(textOf(output.datatype, `output ${name}: datatype`));
    if (type === undefined) throw new FrameError(`output ${name}: datatype ${show(output.datatype)} is not known`);
    const dims = shapeOf(output.shape, name);
    // Some servers write null for what is not there.
    const { parameters = null } = output;
    const size = parameters === null ? undefined : binarySize(parameters, name);
    if (Object.hasOwn(outputs, name)) throw new FrameError(`output ${name} stands twice`);
    if (size === undefined) {
      outputs[name] = { dtype: type.dtype, dims, data: fromJson(output.data, type, elementsOf(dims), name) };
      continue;
    }
    if (at + size > raw.byteLength)
      throw new FrameError(`output ${name}: ${size} bytes announced, ${raw.byteLength - at} are there`);
    outputs[name] = { dtype: type.dtype, dims, data: fromRaw(raw.subarray(at, at + size), type, dims, name) };
    at += size;
  }
  if (at !== raw.byteLength) throw new FrameError(`${raw.byteLength - at} bytes follow the last output`);
  return {
    modelName: typeof answer.model_name === 'string' ? answer.model_name : '',
    modelVersion: typeof answer.model_version === 'string' ? answer.model_version : undefined,
    outputs,
  };
}

function lengthOfJson(header: string, bytes: number): number {
  const length = /^\d{1,15}$/.test(header) ? Number(header) : Number.NaN;
  if (!(length <= bytes))
    throw new FrameError(`${JSON_LENGTH_HEADER} is ${show(header)}, and the body has ${bytes} bytes`);
  return length;
}

/** JSON of a server, as an unknown value. Error: FrameError. */
export function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8'));
  } catch (error) {
    throw new FrameError(`not JSON: ${show((error as Error).message)}`);
  }
}

export function objectOf(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new FrameError(`${what}: expected an object`);
  return value as Record<string, unknown>;
}

export function listOf(value: unknown, what: string): readonly unknown[] {
  if (!Array.isArray(value)) throw new FrameError(`${what}: expected a list, received ${show(value)}`);
  return value;
}

export function textOf(value: unknown, what: string): string {
  if (typeof value !== 'string') throw new FrameError(`${what}: expected a text, received ${show(value)}`);
  return value;
}

function shapeOf(value: unknown, name: string): number[] {
  const dims = listOf(value, `output ${name}: shape`);
  const isShape = dims.every((dim) => Number.isSafeInteger(dim) && (dim as number) >= 0);
  if (!isShape || !Number.isSafeInteger(elementsOf(dims as number[])))
    throw new FrameError(`output ${name}: shape ${show(dims)} is none`);
  return dims as number[];
}

function binarySize(parameters: unknown, name: string): number | undefined {
  const size = objectOf(parameters, `output ${name}: parameters`).binary_data_size;
  if (size === undefined) return undefined;
  if (!Number.isSafeInteger(size) || (size as number) < 0)
    throw new FrameError(`output ${name}: binary_data_size ${show(size)} is none`);
  return size as number;
}

function fromRaw(raw: Uint8Array, type: Datatype, dims: readonly number[], name: string): TensorValues {
  const count = elementsOf(dims);
  if (type.bytes === null || type.view === null) return textsOf(raw, count, name);
  if (raw.byteLength !== count * type.bytes)
    throw new FrameError(
      `output ${name}: ${type.name} [${dims.join(', ')}] takes ${count * type.bytes} bytes, received ${raw.byteLength}`,
    );
  // A copy: raw tensors begin at any byte of the body, typed arrays only at multiples of their width.
  return type.view(new Uint8Array(raw).buffer);
}

/** BYTES: each element after its length in four bytes. */
function textsOf(raw: Uint8Array, count: number, name: string): string[] {
  const bytes = Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength);
  const texts: string[] = [];
  let at = 0;
  while (at < bytes.length) {
    if (bytes.length - at < 4) throw new FrameError(`output ${name}: element ${texts.length} is cut off`);
    const end = at + 4 + bytes.readUInt32LE(at);
    if (end > bytes.length) throw new FrameError(`output ${name}: element ${texts.length} is cut off`);
    texts.push(bytes.toString('utf8', at + 4, end));
    at = end;
  }
  if (texts.length !== count) throw new FrameError(`output ${name}: ${count} elements expected, found ${texts.length}`);
  return texts;
}

/** Nested or flat lists of JSON values; null is not a number (some servers write NaN so). */
function fromJson(data: unknown, type: Datatype, count: number, name: string): TensorValues {
  const values = listOf(data, `output ${name}: data`).flat(NESTING_MAX);
  if (values.length !== count)
    throw new FrameError(`output ${name}: ${count} values expected, received ${values.length}`);
  if (type.dtype === 'string') return values.map((value) => textOf(value, `output ${name}: value`));
  const numbers = values.map((value) => {
    if (typeof value === 'number') return value;
    if (typeof value === 'boolean' && type.dtype === 'bool') return Number(value);
    if (value === null && type.dtype.startsWith('float')) return Number.NaN;
    throw new FrameError(`output ${name}: expected numbers, received ${show(value)}`);
  });
  return fromNumbers(numbers, type, name);
}

function fromNumbers(numbers: readonly number[], type: Datatype, name: string): TensorValues {
  if (type.dtype === 'float16' || type.bytes === null)
    throw new FrameError(`output ${name}: ${type.name} travels only as binary tensor data`);
  if (!type.dtype.startsWith('float') && !numbers.every(Number.isSafeInteger))
    throw new FrameError(`output ${name}: ${type.name} holds whole numbers`);
  const values = type.view!(new ArrayBuffer(numbers.length * type.bytes));
  const isBig = values instanceof BigInt64Array || values instanceof BigUint64Array;
  for (const [i, value] of numbers.entries()) (values as Float64Array)[i] = (isBig ? BigInt(value) : value) as number;
  return values;
}
