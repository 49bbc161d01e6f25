import { BelfryError } from '../../src/errors.js';

/** `CODE message` of what a call throws or rejects with; fails the test when it is no BelfryError. */
export async function errorOf(call: () => unknown): Promise<string> {
  try {
    await call();
  } catch (error) {
    if (error instanceof BelfryError) return `${error.code} ${error.message}`;
    throw error;
  }
  return 'no error';
}
