/** `belfry keys`: makes, lists, revokes and rotates the API keys of a keys file. Servers see a change within a second. */
import { type Command, Option } from 'commander';
import { changeKeys, permissionProblem, readKeys } from '../access/keys-file.js';
import { type KeyRecord, makeKey, SCOPES, type Scope } from '../access/keys.js';
import { keysFile } from '../config/load.js';
import { invalid } from '../errors.js';
import { colors, numberOf, print, printJson, table } from './terminal.js';

interface FileFlags {
  keys?: string;
  config?: string;
  json?: boolean;
}

interface AddFlags extends FileFlags {
  name: string;
  scopes: string[];
  expires?: string;
  perSecond?: number;
  perDay?: number;
  userPrefix?: string;
}

const UNITS_MS: Record<string, number> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

export function addKeys(program: Command): void {
  const keys = program
    .command('keys')
    .description('API keys: who may retrieve, change items, read metrics, administer');
  const command = (name: string, description: string) =>
    keys
      .command(name)
      .description(description)
      .option('--keys <file>', 'the keys file; default the setting keys')
      .option('--config <file>', 'settings file; default belfry.yaml where it exists')
      .option('--json', 'as JSON');
  command('add', 'make a key; it is printed once and kept nowhere')
    .requiredOption('--name <name>', 'whose key it is')
    .addOption(new Option('--scopes <scopes...>', 'what it may do').choices(SCOPES).default(['retrieve']))
    .option('--expires <when>', 'for how long it is good, as 90d or 12h, or until a time as 2027-01-31T00:00:00Z')
    .option('--per-second <n>', 'requests a second; a batch counts each of its requests', numberOf('--per-second'))
    .option('--per-day <n>', 'requests a day (UTC)', numberOf('--per-day'))
    .option('--user-prefix <text>', 'only users whose ids begin with it')
    .action(add);
  command('list', 'names, scopes and times; never the keys, which the file does not hold').action(list);
  command('revoke <key>', 'take a key away, named by its id or its name').action(revoke);
  command('rotate <key>', 'make a new key with the rights of this one, which is good for a while longer')
    .option('--overlap <time>', 'for how long both are good', '24h')
    .action(rotate);
}

function add(flags: AddFlags): void {
  const { key, id, sha256 } = makeKey();
  const now = new Date();
  const record: KeyRecord = {
    id,
    name: flags.name,
    scopes: [...new Set(flags.scopes)] as Scope[],
    sha256,
    created: now.toISOString(),
    ...(flags.expires === undefined ? {} : { expires: timeOf('--expires', flags.expires, now).toISOString() }),
    ...(flags.perSecond === undefined ? {} : { requests_per_second: positive('--per-second', flags.perSecond) }),
    ...(flags.perDay === undefined ? {} : { requests_per_day: positive('--per-day', flags.perDay, true) }),
    ...(flags.userPrefix === undefined ? {} : { user_prefix: flags.userPrefix }),
  };
  if (flags.name.length === 0 || flags.name.length > 128)
    throw invalid('--name', '1 to 128 characters', flags.name, { field: '--name' });
  changeKeys(keysFile(flags), (before) => [...before, record]);
  tell(flags, key, record);
}

function list(flags: FileFlags): void {
  const path = keysFile(flags);
  const keys = readKeys(path);
  const warning = permissionProblem(path);
  if (flags.json) {
    printJson({ keys: keys.map(({ sha256: _hash, ...shown }) => shown), ...(warning && { warning }) });
    return;
  }
  if (warning !== undefined) process.stderr.write(`${colors.yellow('!')} ${warning}\n`);
  const rows = keys.map((key) => [
    key.id,
    key.name,
    key.scopes.join(' '),
    key.expires === undefined ? 'never' : `${key.expires}${isOver(key) ? ' (over)' : ''}`,
    [
      key.requests_per_second === undefined ? '' : `${key.requests_per_second}/s`,
      key.requests_per_day === undefined ? '' : `${key.requests_per_day}/day`,
      key.user_prefix === undefined ? '' : `users ${key.user_prefix}…`,
    ]
      .filter(Boolean)
      .join(' '),
  ]);
  print(table([['id', 'name', 'scopes', 'expires', 'limits'], ...rows]));
}

function revoke(which: string, flags: FileFlags): void {
  let gone: KeyRecord | undefined;
  changeKeys(keysFile(flags), (keys) => {
    gone = theOne(keys, which);
    return keys.filter((key) => key !== gone);
  });
  const { id, name } = gone as KeyRecord;
  if (flags.json) printJson({ revoked: id, name });
  else print(`revoked ${id} (${name}); servers refuse it within a second`);
}

function rotate(which: string, flags: FileFlags & { overlap: string }): void {
  const { key, id, sha256 } = makeKey();
  const now = new Date();
  const until = timeOf('--overlap', flags.overlap, now);
  let record: KeyRecord | undefined;
  changeKeys(keysFile(flags), (keys) => {
    const old = theOne(keys, which);
    // The new one is good for as long as the old one was made for.
    const life = old.expires === undefined ? undefined : Date.parse(old.expires) - Date.parse(old.created);
    record = {
      ...old,
      id,
      sha256,
      created: now.toISOString(),
      ...(life === undefined ? {} : { expires: new Date(now.getTime() + life).toISOString() }),
    };
    const ends = old.expires === undefined ? until.getTime() : Math.min(Date.parse(old.expires), until.getTime());
    return [...keys.map((one) => (one === old ? { ...old, expires: new Date(ends).toISOString() } : one)), record];
  });
  if (!flags.json) process.stderr.write(`the key before is good until ${until.toISOString()} at the latest\n`);
  tell(flags, key, record as KeyRecord);
}

function tell(flags: FileFlags, key: string, { sha256: _hash, ...shown }: KeyRecord): void {
  if (flags.json) {
    printJson({ key, ...shown });
    return;
  }
  print(key);
  process.stderr.write(
    `this is the only time that the key is shown; it may ${shown.scopes.join(', ')}${shown.expires === undefined ? '' : ` until ${shown.expires}`}\n`,
  );
}

/** By id; or by name, of those that are still good, where there is one. Error: BELFRY_INVALID_ARGUMENT. */
function theOne(keys: readonly KeyRecord[], which: string): KeyRecord {
  const byId = keys.find(({ id }) => id === which);
  if (byId !== undefined) return byId;
  const [named, ...more] = keys.filter((key) => key.name === which && !isOver(key));
  if (named === undefined || more.length > 0) {
    const expected =
      named === undefined ? 'the id or name of a key' : `an id: ${[named, ...more].map(({ id }) => id).join(', ')}`;
    throw invalid('key', expected, which, { field: 'key' });
  }
  return named;
}

const isOver = ({ expires }: KeyRecord): boolean => expires !== undefined && Date.parse(expires) <= Date.now();

/** `90d` from now, or a time. */
function timeOf(option: string, text: string, now: Date): Date {
  const [, amount, unit] = /^(\d{1,6})([smhd])$/.exec(text) ?? [];
  const at =
    amount !== undefined && unit !== undefined
      ? new Date(now.getTime() + Number(amount) * (UNITS_MS[unit] as number))
      : /^\d{4}-\d{2}-\d{2}(T[\d:.]+Z)?$/.test(text)
        ? new Date(text)
        : undefined;
  if (at === undefined || Number.isNaN(at.getTime()) || at < now)
    throw invalid(option, 'a time from now on, as 90d, 12h or 2027-01-31', text, { field: option });
  return at;
}

function positive(option: string, value: number, whole = false): number {
  if (!(value > 0 && value <= 1e9) || (whole && !Number.isInteger(value)))
    throw invalid(option, whole ? 'a whole number from 1 to 1e9' : 'a number up to 1e9, more than 0', value, {
      field: option,
    });
  return value;
}
