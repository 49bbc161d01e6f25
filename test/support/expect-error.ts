/** Error tests assert code and message. */
import { expect } from 'vitest';
import { BelfryError, type ErrorCode } from '../../src/errors.js';

export async function caught(work: () => unknown): Promise<BelfryError> {
  try {
    await work();
  } catch (error) {
    if (error instanceof BelfryError) return error;
    throw error;
  }
  throw new Error('expected a BelfryError, nothing was thrown');
}

export async function expectError(
  work: () => unknown,
  code: ErrorCode,
  message: string | RegExp,
): Promise<BelfryError> {
  const error = await caught(work);
  expect({ code: error.code, message: error.message }).toEqual({
    code,
    message: typeof message === 'string' ? message : expect.stringMatching(message),
  });
  return error;
}
