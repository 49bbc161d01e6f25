// Fails when the lock file holds a package below the version that mends a known advisory: the registry's audit service
// is not everywhere. Monthly: look for new ones and raise the floors.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { root } from './steps.mjs';

/** Package → lowest version that may be installed, and what it mends. */
export const FLOORS = {
  fastify: ['5.12.8', 'body validation bypass by content type: CVE-2025-32442, CVE-2026-25223, CVE-2026-33806'],
  '@fastify/static': ['10.1.3', 'guard bypass and traversal: CVE-2026-15074, CVE-2026-7120'],
  undici: ['7.24.0', 'request smuggling and decompression chain: CVE-2026-22036, CVE-2026-1525'],
  piscina: ['5.2.0', 'inherited options.filename: CVE-2026-55388'],
  protobufjs: ['7.5.6', 'CVE-2026-44291, CVE-2023-36665'],
};

const isBelow = (version, floor) => {
  const [a, b] = [version, floor].map((one) => one.split('-')[0].split('.').map(Number));
  const at = a.findIndex((part, i) => part !== b[i]);
  return at >= 0 && a[at] < b[at];
};

/** One line for each package of a lock file that is below its floor. */
export function belowFloors(lock) {
  return Object.entries(lock.packages).flatMap(([path, { version }]) => {
    const name = path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length);
    const [floor, why] = FLOORS[name] ?? [];
    return floor !== undefined && isBelow(version, floor) ? [`${name} ${version} is below ${floor} (${why})`] : [];
  });
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const found = belowFloors(JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')));
  for (const line of found) process.stderr.write(`${line}\n`);
  if (found.length > 0) process.exit(1);
}
