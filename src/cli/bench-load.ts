/** `belfry bench load`: a load on a running server, its latency, its goodput, and the recall of its answers. */
import { type Command, Option } from 'commander';
import { DURING, type During, type Outage, prepareDuring } from '../bench/load/during.js';
import { FAULTS, FaultProxy, type ProxyFault } from '../bench/load/fault-proxy.js';
import { loadReport } from '../bench/load/load-report.js';
import type { LoadRun } from '../bench/load/load-subject.js';
import { fileMix, recordedMix, type RequestMix, userMix } from '../bench/load/mix.js';
import { oneOf, planLoad } from '../bench/load/options.js';
import { runLoad } from '../bench/load/run-load.js';
import { Target } from '../bench/load/target.js';
import { judgeAnswers } from '../bench/load/truth.js';
import { readTruth } from '../bench/load/truth-file.js';
import { CLIENT_KEY_VARIABLE } from '../config/environment.js';
import { BelfryError, invalid } from '../errors.js';
import type { Id } from '../types.js';
import { addBenchOutput, type BenchOutputFlags, finishBench } from './bench-output.js';
import { ExactGenerations } from './exact-answers.js';
import { LoadView } from './load-view.js';
import { numberOf, stopSignal } from './terminal.js';
import { readIds } from './id-lists.js';

interface LoadFlags extends BenchOutputFlags {
  url: string;
  rate?: number;
  ramp?: string;
  closed?: number;
  duration?: number;
  warmup?: number;
  arrivals?: string;
  pace?: string;
  workers?: number;
  connections?: number;
  timeoutMs?: number;
  deadlineMs?: number;
  seed?: number;
  repeats: number;
  mix?: string;
  users?: string;
  zipf: number;
  k: number;
  rerankShare: number;
  filter: string[];
  filterShare: number;
  batch: number;
  body?: string;
  path?: string;
  kserve?: string;
  header: string[];
  data?: string;
  recallSample: number;
  truth?: string;
  truthIds?: string;
  during?: string;
  outageProxy?: string;
  outage?: string;
  outageBegin?: string;
  outageEnd?: string;
  key?: string;
  adminKey?: string;
  adminUrl?: string;
  maxP99?: number;
  maxP999?: number;
  minGoodput?: number;
  minRecall?: number;
  maxErrors?: number;
}

/** A swap under load verifies and loads a generation before it answers. */
const ADMIN_MS = 300_000;

const collect = (one: string, all: string[]): string[] => [...all, one];

export function addBenchLoad(bench: Command): void {
  const command = bench
    .command('load')
    .description('load a server and measure latency, goodput and the recall of its answers')
    .option('--url <address>', 'the server', 'http://127.0.0.1:8080')
    .option('--rate <n>', 'open loop: requests a second, whatever the server does; default 200', numberOf('--rate'))
    .option('--ramp <from:to:step>', 'open loop that rises: finds the knee')
    .option('--closed <clients>', 'closed loop: each client waits for its answer; hides stalls', numberOf('--closed'))
    .option('--duration <s>', 'seconds of the run (10), or of each step of a ramp (3)', numberOf('--duration'))
    .option('--warmup <s>', 'seconds before that which are not counted; default 1', numberOf('--warmup'))
    .option('--arrivals <how>', 'uniform (default) or poisson')
    .option('--pace <how>', 'spin (default: sends on time to microseconds, fills a core) or timer (late by up to 1 ms)')
    .option('--workers <n>', 'generator threads; default one per 20,000 requests/s', numberOf('--workers'))
    .option('--connections <n>', 'most connections; default 256', numberOf('--connections'))
    .option('--timeout-ms <n>', 'a request without an answer counts as failed; default 10000', numberOf('--timeout-ms'))
    .option('--deadline-ms <n>', 'goodput counts answers before this; default 100', numberOf('--deadline-ms'))
    .option('--repeats <n>', 'runs of the same load; the report holds their medians', numberOf('--repeats'), 1)
    .option('--mix <file>', 'requests, JSON lines: /retrieve bodies, or {path, method, headers, body, weight, truth}')
    .option('--users <ids>', 'user ids to ask for: a .txt or .json, or ids with commas between; default the server’s')
    .option('--zipf <s>', 'popularity of users: exponent, 0 for all alike', numberOf('--zipf'), 1)
    .option('-k, --k <n>', 'items a request', numberOf('-k'), 10)
    .option('--rerank-share <share>', 'share of requests that are re-ranked', numberOf('--rerank-share'), 0)
    .option('--filter <json>', 'a filter as in POST /retrieve; may be given several times', collect, [])
    .option('--filter-share <share>', 'share of requests with one of the filters', numberOf('--filter-share'), 1)
    .option('--batch <n>', 'requests in one POST /retrieve/batch', numberOf('--batch'), 1)
    .option('--body <file>', 'send the bytes of this file as they are, to --path or --kserve')
    .option('--path <path>', 'where --body goes')
    .option('--kserve <model>', '--body is a KServe v2 infer request of this model')
    .option('--header <name:value>', 'a header of --body; may be given several times', collect, [])
    .option('--data <dir>', 'the data folder of the server: judge the recall of its answers by the exact path')
    .option('--truth <file>', 'true item ids instead, .npy: a line for each of --users, or line of --mix, best first')
    .option('--truth-ids <file>', '--truth holds row numbers: the item ids, .txt with one a line')
    .option('--recall-sample <n>', 'answers to judge', numberOf('--recall-sample'), 500)
    .option('--during <what>', 'swap, rebuild or scorer-outage in the middle of the run')
    .option('--outage-proxy <port=url>', 'scorer-outage: listen there before the model server; serve with the proxy')
    .option('--outage <how>', `how the proxy fails: ${FAULTS.join(', ')}; default hung`)
    .option('--outage-begin <command>', 'scorer-outage: shell command that breaks the scorer')
    .option('--outage-end <command>', 'and the one that mends it')
    .addOption(new Option('--key <key>', 'API key of the requests').env(CLIENT_KEY_VARIABLE))
    .option('--admin-key <key>', 'API key for --during; default --key')
    .option('--admin-url <address>', 'address for administrators, for --during on another machine')
    .option('--max-p99 <ms>', 'gate: exit code 3 above it', numberOf('--max-p99'))
    .option('--max-p999 <ms>', 'gate on p99.9', numberOf('--max-p999'))
    .option('--min-goodput <share>', 'gate: share of requests answered before the deadline', numberOf('--min-goodput'))
    .option('--min-recall <share>', 'gate on the recall of the answers', numberOf('--min-recall'))
    .option('--max-errors <share>', 'gate on failed requests', numberOf('--max-errors'))
    .option('--seed <n>', 'of users, filters and arrivals; default 1', numberOf('--seed'));
  addBenchOutput(command).action(run);
}

async function run(flags: LoadFlags): Promise<void> {
  const started = new Date();
  const judges = [flags.data, flags.mix, flags.truth].some((one) => one !== undefined);
  const keep = judges ? flags.recallSample : 0;
  const plan = planLoad({ ...flags, seconds: flags.duration, warmupSeconds: flags.warmup, keep });
  checkShares(flags);
  const what = flags.during === undefined ? undefined : oneOf<During>('--during', flags.during, DURING);
  const target = Target.at(flags.url, plan.timeoutMs, flags.key);
  const adminUrl = flags.adminUrl ?? (what === undefined ? flags.url : await target.adminAddress());
  const admin = Target.at(adminUrl, ADMIN_MS, flags.adminKey ?? flags.key);
  const view = new LoadView();
  const exact = flags.data === undefined ? undefined : await ExactGenerations.of(flags.data);
  const stop = stopSignal();
  const outage = await outageOf(flags);
  try {
    if (flags.kserve !== undefined) await target.mustBeReady(flags.kserve);
    const plain = await mixOf(flags, target, plan.seed);
    await target.rehearse(plain.requests);
    const mix = withKey(plain, flags.key);
    const during =
      what === undefined ? undefined : await prepareDuring(admin, { ...flags, what, outage, server: target });
    const runs: LoadRun[] = [];
    for (let i = 0; i < flags.repeats; i++) {
      view.begin(flags.repeats === 1 ? 'load' : `load ${i + 1} of ${flags.repeats}`);
      const result = await runLoad(target, mix, plan, {
        onLive: view.update,
        signal: stop.signal,
        ...(during === undefined ? {} : { during }),
      });
      view.finish();
      const recall = await judgeAnswers(result.recording.kept, mix, exact);
      runs.push({ result, ...(recall === undefined ? {} : { recall }) });
    }
    const { maxP99: maxP99Ms, maxP999: maxP999Ms, minGoodput, minRecall, maxErrors: maxErrorShare } = flags;
    const report = loadReport(
      {
        url: target.origin,
        mix,
        plan,
        during: what,
        started,
        settings: { url: target.origin, ...plan, mix: mix.description, repeats: flags.repeats },
        gates: { maxP99Ms, maxP999Ms, minGoodput, minRecall, maxErrorShare },
      },
      runs,
    );
    await finishBench(report, flags, flags.data);
  } finally {
    stop.release();
    view.finish();
    await target.close();
    await admin.close();
    await exact?.close();
    if (outage !== undefined && 'proxy' in outage) await outage.proxy.close();
  }
}

/** The load sends the key too; what is kept of the mix for the report does not hold it. */
function withKey(mix: RequestMix, key: string | undefined): RequestMix {
  if (key === undefined) return mix;
  const requests = mix.requests.map((request) => ({
    ...request,
    headers: [...request.headers, 'authorization', `Bearer ${key}`],
  }));
  return { ...mix, requests };
}

async function outageOf({ outageBegin, outageEnd, outageProxy, outage }: LoadFlags): Promise<Outage | undefined> {
  if (outageProxy !== undefined) {
    const [, port, url] = /^(\d{1,5})=(http:\/\/[^/]+\/?)$/.exec(outageProxy) ?? [];
    if (url === undefined || !URL.canParse(url))
      throw invalid('--outage-proxy', 'PORT=http://host:port of the model server', outageProxy);
    const fault = outage === undefined ? 'hung' : oneOf<ProxyFault>('--outage', outage, FAULTS);
    return { proxy: await FaultProxy.open(Number(port), new URL(url)), fault };
  }
  return outageBegin === undefined || outageEnd === undefined ? undefined : { begin: outageBegin, end: outageEnd };
}

function checkShares(flags: LoadFlags): void {
  for (const [option, value] of [
    ['--rerank-share', flags.rerankShare],
    ['--filter-share', flags.filterShare],
    ['--min-goodput', flags.minGoodput ?? 0],
    ['--min-recall', flags.minRecall ?? 0],
    ['--max-errors', flags.maxErrors ?? 0],
  ] as const) {
    if (!(value >= 0 && value <= 1)) throw invalid(option, 'a share from 0 to 1', value, { field: option });
  }
  for (const [option, value, max] of [
    ['--repeats', flags.repeats, 1000],
    ['--batch', flags.batch, 256],
    ['-k', flags.k, 1000],
  ] as const) {
    if (!Number.isInteger(value) || value < 1 || value > max)
      throw invalid(option, `an integer from 1 to ${max}`, value, { field: option, limit: max });
  }
  if (!(flags.zipf >= 0 && flags.zipf <= 10))
    throw invalid('--zipf', 'a number from 0 to 10', flags.zipf, { field: '--zipf' });
}

async function mixOf(flags: LoadFlags, target: Target, seed: number): Promise<RequestMix> {
  if (flags.body !== undefined) {
    const path = flags.kserve === undefined ? flags.path : `/v2/models/${encodeURIComponent(flags.kserve)}/infer`;
    if (path === undefined) throw invalid('--body', '--path or --kserve beside it', 'neither', { field: '--path' });
    return recordedMix(flags.body, path, flags.header.flatMap(headerOf));
  }
  if (flags.kserve !== undefined) throw invalid('--kserve', 'a recorded --body beside it', 'none', { field: '--body' });
  const given = await truthOf(flags);
  if (flags.mix !== undefined)
    return fileMix(flags.mix, seed, given && ((lines, k) => given(lines, k, 'requests of the mix')));
  const filters = flags.filter.map(filterOf);
  const users = await usersOf(flags, target);
  return userMix(users, { ...flags, filters, seed }, await given?.(users.length, flags.k, `users of ${flags.users}`));
}

/** Reads --truth once it is known for how many requests of which k; undefined without it. */
async function truthOf({ truth, truthIds, users, mix, filter }: LoadFlags) {
  if (truth === undefined) return undefined;
  if (users === undefined && mix === undefined)
    throw invalid('--truth', 'the --users or the --mix that its lines are of', 'neither', { field: '--users' });
  if (filter.length > 0) throw invalid('--truth', 'no --filter, which has other true answers', filter.join(' '));
  const itemIds = truthIds === undefined ? undefined : await readIds('--truth-ids', truthIds, 'string');
  return (lines: number, k: number, what: string) => readTruth(truth, { lines, k, what, itemIds });
}

/** Ids of the same kind as those that the server tells. */
async function usersOf(flags: LoadFlags, target: Target): Promise<readonly Id[]> {
  const known = await target.userIds();
  if (flags.users === undefined) return known;
  return readIds('--users', flags.users, typeof known[0] === 'number' ? 'integer' : 'string');
}

function headerOf(text: string): [string, string] {
  const at = text.indexOf(':');
  if (at < 1) throw invalid('--header', 'name:value', text, { field: '--header' });
  return [text.slice(0, at).trim(), text.slice(at + 1).trim()];
}

function filterOf(text: string): object {
  try {
    return JSON.parse(text) as object; // the server checks its form, before the run
  } catch (error) {
    throw new BelfryError('BELFRY_INVALID_ARGUMENT', `--filter: not JSON (${(error as Error).message})`, {
      field: '--filter',
      cause: error,
    });
  }
}
