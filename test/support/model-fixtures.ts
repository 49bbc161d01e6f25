/** The ONNX files of test/fixtures/models and what Python onnxruntime answered on them (make_models.py). */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { temporaryFolder } from './folders.js';
import type { TensorData, TensorDtype, TensorSpec } from '../../src/types.js';

interface Recorded {
  readonly feeds: Record<string, { dims: number[]; data: number[] }>;
  readonly outputs: Record<string, { dims: number[]; data: number[] }>;
}

export function modelPath(name: string): string {
  return fileURLToPath(new URL(`../fixtures/models/${name}`, import.meta.url));
}

export const expected = JSON.parse(readFileSync(modelPath('expected.json'), 'utf8')) as Record<string, Recorded[]>;

export function tensor(dtype: TensorDtype, dims: readonly number[], values: readonly number[]): TensorData {
  const data =
    dtype === 'int64'
      ? BigInt64Array.from(values, BigInt)
      : dtype === 'int32'
        ? Int32Array.from(values)
        : Float32Array.from(values);
  return { dtype, dims, data };
}

/** Recorded feeds as tensors of the dtypes that the model declares. */
export function feedsOf(recorded: Recorded, inputs: readonly TensorSpec[]): Record<string, TensorData> {
  return Object.fromEntries(
    inputs.map(({ name, dtype }) => [
      name,
      tensor(dtype as TensorDtype, recorded.feeds[name]!.dims, recorded.feeds[name]!.data),
    ]),
  );
}

export function expectClose(received: ArrayLike<number>, wanted: ArrayLike<number>, tolerance = 1e-5): void {
  expect(received.length).toBe(wanted.length);
  for (let i = 0; i < wanted.length; i++)
    expect(Math.abs(received[i]! - wanted[i]!), `value ${i}`).toBeLessThanOrEqual(tolerance);
}

/** A file in a fresh folder. */
export function fileWith(name: string, bytes: Uint8Array | string): string {
  const path = join(temporaryFolder(), name);
  writeFileSync(path, bytes);
  return path;
}
