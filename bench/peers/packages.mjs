// Where the packages of the peers are: npm's under bench/data/peers, Python's in virtual environments outside the checkout.
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { dataFolder } from '../datasets/glove.mjs';

export const npmFolder = join(dataFolder, 'peers');
export const pythonFolder = join(homedir(), '.cache', 'belfry', 'peers');

/** Loads a peer's npm package. @throws Error that says how to get it */
export function requirePeer(name) {
  try {
    return createRequire(join(npmFolder, 'package.json'))(name);
  } catch (error) {
    throw new Error(`${name} cannot be loaded (${error.message.split('\n')[0]}); run: npm run setup:peers`, {
      cause: error,
    });
  }
}

export function peerVersion(name) {
  return createRequire(join(npmFolder, 'package.json'))(join(npmFolder, 'node_modules', name, 'package.json')).version;
}

/** The interpreter of a Python peer's own environment. @throws Error that says how to get it */
export function pythonOf(name) {
  const path = join(pythonFolder, name, 'bin', 'python');
  if (!existsSync(path)) throw new Error(`${name} is not installed; run: npm run setup:peers -- --python`);
  return path;
}
