/** A service with keys and everything that is guarded: upserts, /admin, the page; without a socket unless it is made to listen. */
import { rmSync } from 'node:fs';
import { KeyRing } from '../../src/access/key-ring.js';
import { BelfryError } from '../../src/errors.js';
import type { BuildRecord } from '../../src/rebuild/history.js';
import { DataFolder } from '../../src/generation/data-folder.js';
import type { AdminParts, AppParts, HttpSettings } from '../../src/http/parts.js';
import { makeModelsFolder, randomValues, temporaryFolder } from './folders.js';
import { type KeyOptions, type TestKeys, writeTestKeys } from './keys.js';
import { type Service, startService } from './service.js';

const DIMS = 8;
export const vector = Array.from(randomValues(DIMS, 3));

export interface Secured extends Service, TestKeys {
  readonly ring: KeyRing;
}

/** 200 items `item-0` …, 20 users `acme:0` … and `other:0` …. Without `keys` there is no keys file. */
export async function startSecured(
  keys: Readonly<Record<string, KeyOptions>> | undefined,
  options: { settings?: Partial<HttpSettings>; parts?: Partial<AppParts>; onReload?: (outcome: object) => void } = {},
): Promise<Secured> {
  const ids = (count: number, name: (i: number) => string) =>
    `${Array.from({ length: count }, (_, i) => name(i)).join('\n')}\n`;
  const models = makeModelsFolder(temporaryFolder({ keep: true }), {
    items: { data: randomValues(200 * DIMS, 1), dims: DIMS },
    users: { data: randomValues(20 * DIMS, 2), dims: DIMS },
    files: {
      'embeddings/item_ids.txt': ids(200, (i) => `item-${i}`),
      'embeddings/user_ids.txt': ids(20, (i) => (i < 10 ? `acme:${i}` : `other:${i}`)),
    },
  });
  const adminData = temporaryFolder({ keep: true });
  const test = writeTestKeys(keys ?? {});
  const ring = KeyRing.open(test.file, { watchMs: 20, ...(options.onReload && { onReload: options.onReload }) });
  const service = await startService(models, {
    upserts: {},
    ...(options.settings && { settings: options.settings }),
    parts: {
      admin: adminParts(await DataFolder.open(adminData)),
      ...(keys === undefined ? {} : { keys: ring }),
      ...options.parts,
    },
  });
  return {
    ...service,
    ...test,
    ring,
    async close() {
      await service.close();
      ring.close();
      test.remove();
      for (const path of [models, adminData]) rmSync(path, { recursive: true, force: true });
    },
  };
}

/** An administration with nothing to administer: what is tried is who gets to it. */
function adminParts(data: DataFolder): AdminParts {
  const nothing: BuildRecord[] = [];
  return {
    data,
    rebuilder: {
      view: () => undefined,
      builtElsewhere: async () => undefined,
      builds: async () => nothing,
      problem: undefined,
      start: async () => {
        throw new BelfryError('BELFRY_BUILD_RUNNING', 'a build is running already');
      },
      cancel: async () => {
        throw new BelfryError('BELFRY_NO_BUILD', 'no build is running');
      },
    } as unknown as AdminParts['rebuilder'],
    follower: { check: async () => undefined, problem: undefined } as unknown as AdminParts['follower'],
  };
}
