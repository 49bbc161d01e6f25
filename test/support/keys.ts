/** Keys files for tests: what is written, and the keys themselves. */
import { rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type KeyRecord, makeKey, type Scope } from '../../src/access/keys.js';
import { temporaryFolder } from './folders.js';

export type KeyOptions = Partial<Omit<KeyRecord, 'scopes' | 'sha256'>> & { readonly scopes?: readonly Scope[] };

export interface TestKeys {
  readonly file: string;
  /** By name. */
  readonly keys: Readonly<Record<string, string>>;
  readonly ids: Readonly<Record<string, string>>;
  /** Of all that were ever added. */
  records(): KeyRecord[];
  write(records: readonly KeyRecord[]): void;
  remove(): void;
}

export function writeTestKeys(wanted: Readonly<Record<string, KeyOptions>>): TestKeys {
  const file = join(temporaryFolder({ keep: true }), 'keys.json');
  const keys: Record<string, string> = {};
  const ids: Record<string, string> = {};
  const records = Object.entries(wanted).map(([name, { scopes, ...more }]): KeyRecord => {
    const { key, id, sha256 } = makeKey();
    keys[name] = key;
    ids[name] = id;
    return {
      id,
      name,
      scopes: [...(scopes ?? ['retrieve' as const])],
      sha256,
      created: '2026-01-01T00:00:00Z',
      ...more,
    };
  });
  const write = (some: readonly KeyRecord[]) =>
    writeFileSync(file, JSON.stringify({ version: 1, keys: some }), { mode: 0o600 });
  write(records);
  return {
    file,
    keys,
    ids,
    records: () => [...records],
    write,
    remove: () => rmSync(dirname(file), { recursive: true }),
  };
}

export const bearer = (key: string) => ({ authorization: `Bearer ${key}` });
