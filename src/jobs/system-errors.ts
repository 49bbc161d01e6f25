/** What the system refused, as an error that names the file. */
import { BelfryError } from '../errors.js';

export function explainSystemError(error: unknown): unknown {
  const { code, syscall, path } = error as NodeJS.ErrnoException;
  if (!(error instanceof Error) || error instanceof BelfryError || !code || !syscall) return error;
  return new BelfryError('BELFRY_FILE_UNREADABLE', error.message, {
    ...(path === undefined ? {} : { field: path }),
    cause: error,
  });
}
