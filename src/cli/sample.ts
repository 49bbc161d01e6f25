/** Where the sample export is: beside dist/ in a checkout and in the package. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const SAMPLE = join(fileURLToPath(new URL('../../', import.meta.url)), 'embeddings', 'sample');
