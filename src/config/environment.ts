/** What we set in the environment of the process for libraries that read it there. */

/**
 * ONNX Runtime 1.30 on Linux and macOS keeps a device id in the user's cache folder and uploads usage events unless this
 * is set before its library is loaded. A retrieval service calls nobody.
 *
 * Takes effect for the whole process when called on the main thread; the environment of a worker thread is a copy.
 */
export function disableModelTelemetry(): void {
  process.env.ORT_DISABLE_TELEMETRY ??= '1';
}

/** Faults to make on purpose, for tests of durability; the words of it are in generation/faults.ts. Unset in production. */
export function plannedFaults(): string | undefined {
  return process.env.BELFRY_FAULTS || undefined;
}

const PREFIX = 'BELFRY_';

/** The variable from which commands that ask a server take an API key. */
export const CLIENT_KEY_VARIABLE = `${PREFIX}KEY`;
