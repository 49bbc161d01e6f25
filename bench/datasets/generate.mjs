// node bench/datasets/generate.mjs two-tower-1m-d128 [more names]: generates data sets ahead of a bench.
import { join } from 'node:path';
import { dataFolder } from './glove.mjs';
import { ensureTwoTower, parseTwoTower } from './two-tower.mjs';

for (const name of process.argv.slice(2)) {
  const size = parseTwoTower(name);
  if (size === undefined)
    throw new Error(`${name}: expected a name such as two-tower-1m-d128 or two-tower-100k-d64-s7`);
  process.stdout.write(`${JSON.stringify(ensureTwoTower(join(dataFolder, name), size))}\n`);
}
