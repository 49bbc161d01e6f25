/**
 * The crash loop: one data folder lives through N kills of the processes that build, publish, roll back, collect, swap and
 * change items in it: at each named failpoint (before the call, after it, and in the middle of a write), then at random
 * moments. After every kill a new process must start, serve the old generation or the new one and nothing between, answer as
 * brute force does, know every change that was acknowledged, and leave nothing behind.
 *
 *     node test/crash/loop.mjs [--kills N] [--seed S] [--json]
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { damageOf, differenceOf, orphansOf, readManifestOf, readPointer, seeded, writeExport } from './judge.mjs';

const VICTIM = fileURLToPath(new URL('victim.mjs', import.meta.url));
const UP_MS = 30_000;
const LIFE_MS = 60_000;
/** Random kills come this long after the process is up, at most; a small build takes about as long. */
const RANDOM_MS = 500;
/** Of random kills, those that come while the process starts. */
const STARTING_SHARE = 0.15;
const STARTING_MS = 700;
const SMALL_EXPORTS = 5;
/** So large that it gets a graph. */
const LARGE = 'large';
const LARGE_ITEMS = 4200;
const EVERYTHING = `build:0,build:1,put,put,delete,swap,cancel:2,rollback,activate,build:3,corrupt,build:${LARGE}`;

const { values: options } = parseArgs({
  options: {
    kills: { type: 'string', default: '200' },
    seed: { type: 'string', default: '1' },
    json: { type: 'boolean', default: false },
  },
});

class CrashLoop {
  constructor(folder, seed) {
    this.data = join(folder, 'data');
    this.exports = join(folder, 'exports');
    this.random = seeded(seed);
    this.lives = 0;
    /** What CURRENT may name now; undefined before the first publish. */
    this.current = undefined;
    this.known = new Set();
    this.damaged = new Set();
    /** id → vector, or null for deleted; and the one change that was under way when the process died. */
    this.changes = new Map();
    this.unsure = undefined;
    this.under = undefined;
    this.counts = { acknowledged: 0, published: 0, moved: 0, oldAfterKill: 0, newAfterKill: 0 };
    writeExport(join(this.exports, LARGE), LARGE_ITEMS, 1000);
    for (let at = 0; at < SMALL_EXPORTS; at++) writeExport(join(this.exports, String(at)), 30 + 8 * at, 1 + at);
  }

  /** One process from its start to its end. `kill` says when: a failpoint, milliseconds after it is up or started, or never. */
  async live(operations, kill = {}, mode = 'once') {
    const seed = String(1000 + this.lives++);
    const faults = kill.point ?? (kill.trace === undefined ? undefined : `trace=${kill.trace}`);
    const child = spawn(process.execPath, [VICTIM, this.data, this.exports, seed, operations, mode], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, ...(faults === undefined ? {} : { BELFRY_FAULTS: faults }) },
    });
    child.stdin.on('error', () => undefined); // it died before it could be told
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (text) => (stderr = (stderr + text).slice(-4000)));
    const ended = new Promise((resolve) =>
      child.once('close', (code, signal) => resolve(signal ?? `exit code ${code}`)),
    );
    const timers = [setTimeout(() => child.kill('SIGABRT'), LIFE_MS)];
    const killIn = (ms) => timers.push(setTimeout(() => child.kill('SIGKILL'), ms));
    if (kill.afterStart !== undefined) killIn(kill.afterStart);
    timers.push(setTimeout(() => !isUp && child.kill('SIGABRT'), UP_MS));
    let isUp = false;
    let isDone = false;
    for await (const text of createInterface({ input: child.stdout })) {
      let line;
      try {
        line = JSON.parse(text);
      } catch {
        break; // died while it spoke
      }
      if (line.up !== undefined) {
        isUp = true;
        try {
          this.checkUp(line.up);
        } catch (error) {
          child.kill('SIGKILL');
          throw error;
        }
        if (kill.afterUp !== undefined) killIn(kill.afterUp);
        child.stdin.write('go\n');
      } else if (line.done !== undefined) isDone = true;
      else this.note(line);
    }
    const end = await ended;
    for (const timer of timers) clearTimeout(timer);
    if (end !== 'SIGKILL' && !(isDone && end === 'exit code 0'))
      throw new Error(`the process ended with ${end}${isUp ? '' : ' before it was up'}: ${stderr}`);
    return { isDone, isUp };
  }

  /** What a process says of its work. */
  note({ begin, end, failed }) {
    if (begin !== undefined) {
      this.under = begin;
      if (begin.operation === 'corrupt') this.damaged.add(begin.target);
      return;
    }
    const { under } = this;
    this.under = undefined;
    if (failed !== undefined) {
      const isExpected =
        failed.code === 'BELFRY_UNKNOWN_ITEM' || (failed.code === 'BELFRY_GENERATION_CORRUPT' && this.damaged.size > 0);
      if (!isExpected) throw new Error(`${failed.operation} failed: ${failed.code} ${failed.message}`);
      return;
    }
    const { operation, result } = end;
    if (operation === 'build') {
      this.counts.published++;
      this.current = result;
      this.known.add(result); // a rollback of the same life may go to it
    } else if ((operation === 'rollback' || operation === 'activate') && result !== null) {
      this.counts.moved++;
      this.current = result;
    } else if (operation === 'put' || operation === 'delete') {
      this.counts.acknowledged++;
      this.changes.set(under.id, operation === 'put' ? Float32Array.from(under.vector) : null);
    }
  }

  /** All that must hold when a process is up again. */
  checkUp({ serving, problem, answers }) {
    const { under } = this;
    this.under = undefined;
    if (serving === null) {
      if (this.current !== undefined) throw new Error(`nothing serves, ${this.current} did: ${problem}`);
      return;
    }
    if (problem) throw new Error(`${serving} serves, and yet: ${problem}`);
    const { current } = readPointer(this.data);
    if (serving !== current) throw new Error(`${serving} serves, CURRENT names ${current}`);
    const folder = join(this.data, `gen-${current}`);
    const source = basename(readManifestOf(folder).models_folder);
    const isOld = current === this.current;
    const isNew =
      (under?.operation === 'build' && !this.known.has(current) && source === under.export) ||
      (under?.operation === 'activate' && current === under.target) ||
      (under?.operation === 'rollback' && this.known.has(current));
    if (!isOld && !isNew) {
      throw new Error(
        `${current} serves (export ${source}), ${this.current} did; under way was ${JSON.stringify(under)}`,
      );
    }
    if (under !== undefined && under.operation !== 'put' && under.operation !== 'delete')
      this.counts[isOld ? 'oldAfterKill' : 'newAfterKill']++;
    this.current = current;
    for (const name of readdirSync(this.data)) {
      if (name.startsWith('quarantined-') && !this.damaged.has(name.slice(12)))
        throw new Error(`${name}: a kill left a corrupt generation`);
      if (!name.startsWith('gen-')) continue;
      this.known.add(name.slice(4));
      const damage = this.damaged.has(name.slice(4)) ? undefined : damageOf(join(this.data, name));
      if (damage !== undefined) throw new Error(damage);
    }
    const orphans = orphansOf(this.data);
    if (orphans.length > 0) throw new Error(`left behind: ${orphans.join(', ')}`);
    this.checkAnswers(answers, current, source, under);
  }

  checkAnswers(answers, current, source, under) {
    const mixed = answers.find(({ generation }) => generation !== current);
    if (mixed !== undefined) throw new Error(`${mixed.generation} answered, ${current} serves`);
    const exported = join(this.exports, source);
    const isUnsure = under?.operation === 'put' || under?.operation === 'delete';
    const difference = differenceOf(answers, exported, this.changes);
    if (difference === undefined) return;
    if (!isUnsure) throw new Error(`generation ${current}: ${difference}`);
    // The change under way when the process died was not acknowledged: it is there, or it is not.
    const after = new Map(this.changes).set(
      under.id,
      under.operation === 'put' ? Float32Array.from(under.vector) : null,
    );
    const other = differenceOf(answers, exported, after);
    if (other !== undefined) throw new Error(`generation ${current}: ${difference}; with the last change: ${other}`);
    this.changes = after;
  }

  /** Every failpoint that the operations pass, and an operation that passes it. */
  async failpoints(trace) {
    await this.live('build:4,build:0'); // so that there is something to collect
    await this.live(EVERYTHING, { trace });
    const found = new Map();
    let operation = 'start';
    for (const line of readFileSync(trace, 'utf8').trim().split('\n')) {
      if (line.startsWith('# ')) operation = line.slice(2);
      else if (!found.has(line)) found.set(line, operation);
    }
    return found;
  }

  randomOperations() {
    const weighted = [
      'build',
      'build',
      'build',
      'rollback',
      'activate',
      'swap',
      'put',
      'put',
      'put',
      'delete',
      'cancel',
    ];
    return Array.from({ length: 40 }, () => {
      const one = weighted[Math.floor(this.random() * weighted.length)];
      return one === 'build' || one === 'cancel' ? `${one}:${Math.floor(this.random() * SMALL_EXPORTS)}` : one;
    }).join(',');
  }

  randomKill() {
    return this.random() < STARTING_SHARE
      ? { afterStart: this.random() * STARTING_MS }
      : { afterUp: this.random() * RANDOM_MS };
  }
}

/** Kills at failpoints, in the order of their operations. */
function plannedKills(points) {
  return [...points].flatMap(([point, operation]) => {
    const phases = /\.(write|truncate)$/.test(point) ? ['before', 'during', 'after'] : ['before', 'after'];
    return phases.map((phase) => ({ point: `kill-${phase}@${point}`, operation }));
  });
}

async function main() {
  const kills = Number(options.kills);
  const seed = Number(options.seed);
  if (!Number.isInteger(kills) || kills < 1 || !Number.isInteger(seed)) throw new Error('--kills N --seed S: integers');
  const folder = mkdtempSync(join(tmpdir(), 'belfry-crash-'));
  const loop = new CrashLoop(folder, seed);
  const started = performance.now();
  const done = { failpoints: 0, atFailpoints: 0, atRandom: 0 };
  const note = (text) => process.stderr.isTTY && process.stderr.write(`\r\x1b[2K${text}`);
  let last;
  try {
    const points = await loop.failpoints(join(folder, 'trace'));
    done.failpoints = points.size;
    const planned = plannedKills(points);
    if (kills < planned.length)
      process.stderr.write(`${planned.length} kills would reach each failpoint; ${kills} are random\n`);
    for (const { point, operation } of kills < planned.length ? [] : planned) {
      last = point;
      note(`${done.atFailpoints + 1} of ${kills}: ${point} in ${operation}`);
      const twice = operation === 'start' ? 'swap' : `${operation},${operation}`;
      // What a kill left damaged is moved aside first; and then there must be another to damage.
      const words = operation === 'corrupt' ? 'quarantine,build:1,corrupt' : twice;
      const { isDone } = await loop.live(words, { point });
      // Some points need what others leave: a segment of the log begins after a build.
      if (isDone && (await loop.live(EVERYTHING, { point })).isDone) throw new Error(`nothing passes ${point} again`);
      done.atFailpoints++;
    }
    while (done.atFailpoints + done.atRandom < kills) {
      const kill = loop.randomKill();
      last = JSON.stringify(kill);
      note(`${done.atFailpoints + done.atRandom + 1} of ${kills}: ${last}`);
      await loop.live(loop.randomOperations(), kill, 'forever');
      done.atRandom++;
    }
    last = 'the end';
    await loop.live('build:0,rollback');
    await loop.live('swap');
    rmSync(folder, { recursive: true, force: true });
    report({ ok: true, kills, seed, ...done, ...loop.counts, seconds: seconds(started) });
  } catch (error) {
    const at = done.atFailpoints + done.atRandom;
    report({
      ok: false,
      kills: at,
      seed,
      after: last,
      error: error.message,
      folder: existsSync(folder) ? folder : null,
    });
    process.exitCode = 1;
  }
}

function seconds(started) {
  return Math.round((performance.now() - started) / 100) / 10;
}

function report(result) {
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[2K');
  if (options.json) process.stdout.write(`${JSON.stringify(result, null, 2)}\n`);
  else
    process.stdout.write(
      `${Object.entries(result)
        .map(([key, value]) => `${key.padEnd(14)} ${value}`)
        .join('\n')}\n`,
    );
}

await main();
