/** `import { BelfryClient } from 'belfry/client'`. */
export * from './client.js';
export { BelfryClientError, type ClientErrorDetails } from './client-error.js';
export type { ErrorAnswer, Operations } from './api.js';
