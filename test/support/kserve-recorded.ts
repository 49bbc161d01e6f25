/** Two exchanges with the real Triton: what is sent, made by a formula, and the bytes that came back (test/interop records them). */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { TensorData } from '../../src/types.js';

export const RECORDED_FILE = fileURLToPath(new URL('../fixtures/kserve/triton.json', import.meta.url));

export interface Exchange {
  readonly method: string;
  readonly path: string;
  /** Base64; absent in requests without a body. */
  readonly body?: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly answer: {
    readonly status: number;
    readonly headers: Readonly<Record<string, string>>;
    readonly body: string;
  };
}

export interface Recorded {
  readonly server: string;
  readonly exchanges: readonly Exchange[];
  /** Of PyTorch, for the inputs of dcnInputs(). */
  readonly scores: readonly number[];
}

export function readRecorded(): Recorded {
  return JSON.parse(readFileSync(RECORDED_FILE, 'utf8')) as Recorded;
}

const ROWS = 2;

/** Of the sample's DCN-v2: [name, dtype, width]. */
const DCN: readonly [name: string, dtype: 'float32' | 'int64', width: number][] = [
  ['dense', 'float32', 5],
  ['sparse', 'int64', 56],
  ['history', 'int64', 48],
  ['relates_to', 'int64', 24],
  ['goes_with', 'int64', 20],
  ['user_embedding', 'float32', 64],
  ['item_embedding', 'float32', 64],
];

/** Small whole numbers that are rows of every embedding, and quarters, which float32 holds exactly. */
export function dcnInputs(): Record<string, TensorData> {
  return Object.fromEntries(
    DCN.map(([name, dtype, width]) => {
      const values = Array.from({ length: ROWS * width }, (_, i) => (i * 7 + width) % 8);
      const data =
        dtype === 'int64'
          ? BigInt64Array.from(values, (value) => BigInt(value))
          : Float32Array.from(values, (value) => value / 4);
      return [name, { dtype, dims: [ROWS, width], data }];
    }),
  );
}

/** One tensor [2, 2] of each datatype, edges of their ranges among the values. */
export function echoInputs(): Record<string, TensorData> {
  const dims = [2, 2];
  return {
    fp16: { dtype: 'float16', dims, data: Uint16Array.of(0x3c00, 0xc000, 0x7bff, 0x0001) },
    fp32: { dtype: 'float32', dims, data: Float32Array.of(1.5, -0, 3.4028234663852886e38, 1e-45) },
    fp64: { dtype: 'float64', dims, data: Float64Array.of(Math.PI, -1e308, 5e-324, 0) },
    int32: { dtype: 'int32', dims, data: Int32Array.of(-(2 ** 31), 2 ** 31 - 1, 0, -1) },
    int64: { dtype: 'int64', dims, data: BigInt64Array.of(-(2n ** 63n), 2n ** 63n - 1n, 0n, -1n) },
    bool: { dtype: 'bool', dims, data: Uint8Array.of(1, 0, 0, 1) },
    bytes: { dtype: 'string', dims, data: ['', 'café', '数', 'a'.repeat(300)] },
  };
}
