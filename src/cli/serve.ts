/** `belfry serve`: makes a generation if the models folder has a new export, serves what CURRENT names, and stops cleanly. */
import { setTimeout } from 'node:timers/promises';
import closeWithGrace from 'close-with-grace';
import type { Command } from 'commander';
import { loadAddon } from '../ann/addon.js';
import { dataFolder, loadSettings } from '../config/load.js';
import type { BelfryError } from '../errors.js';
import { DataFolder } from '../generation/data-folder.js';
import { GenerationStore } from '../generation/store.js';
import { buildApp } from '../http/app.js';
import { assertPortFree, listen } from '../http/server.js';
import { Retriever } from '../retrieval/retriever.js';
import { openUserStores } from '../retrieval/user-stores.js';
import { Metrics } from '../telemetry/metrics.js';
import { openLogSink } from '../telemetry/log-sink.js';
import { enableTracing } from '../telemetry/tracing.js';
import { VERSION } from '../version.js';
import { ServerAccess } from './access.js';
import { announce, generationFacts, type ServingFacts } from './announce.js';
import { Primary } from './cluster-primary.js';
import { PrimaryBuilds, PrimaryLink } from './cluster-worker.js';
import { addExportOptions, type ExportFlags, exportSettings } from './export-options.js';
import { followerOf } from './follow.js';
import { observeServer } from './observe.js';
import { openUpserts } from './open-upserts.js';
import { makeLogger } from './logger.js';
import { openTraffic } from './open-traffic.js';
import { firstBuild, ServerRebuilds } from './rebuild.js';
import { numberOf, ProgressLine, stopSignal } from './terminal.js';

/** How long requests in flight may take after a stop signal. */
const DRAIN_MS = 10_000;
/**
 * For this long after the signal requests are still taken, with `connection: close`: closing at once resets sockets
 * whose request is sent but not yet read.
 */
const LATE_REQUESTS_MS = 300;

/**
 * A handler of these in JavaScript never gets to run: the instruction that failed fails again for ever, and a crash becomes
 * a process that hangs. Without one the process ends, and whoever watches it starts another.
 */
const CRASHES = ['SIGILL', 'SIGTRAP', 'SIGABRT', 'SIGBUS', 'SIGFPE', 'SIGSEGV'] as const;

export function addServe(program: Command): void {
  addExportOptions(program.command('serve'))
    .description('build what is new, then serve /retrieve')
    .option('--host <address>', 'address to listen on; default 127.0.0.1')
    .option('--port <n>', 'port to listen on; default 8080 (PORT does the same)', numberOf('--port'))
    .option('--admin-port <n>', 'port for administrators and the page; default port + 10000', numberOf('--admin-port'))
    .option('--keys <file>', 'API keys (belfry keys); every request needs one')
    .option('--open-access', 'other machines may retrieve without a key')
    .option('--tls-cert <file>', 'certificate, PEM; with --tls-key')
    .option('--tls-key <file>', 'its private key, PEM')
    .option('--workers <n>', 'processes that answer requests; default 1', numberOf('--workers'))
    .option('--threads <n>', 'search threads; default one per CPU', numberOf('--threads'))
    .option('--kernel <name>', 'amx, avx512vnni, avxvnni, avx2 or portable; default the best of this CPU')
    .option('--rerank-module <file>', 'a module that exports rerank(request, candidates, signal)')
    .option(
      '--model-server <url>',
      'KServe v2 server (Triton, KServe, MLServer) for rerankers that do not run in process',
    )
    .option('--swap <how>', 'when two generations do not fit into memory: beside (refuse the new) or stop-then-load')
    .option('--watch', 'build when the models folder has a new export (_SUCCESS or export.json), once it is whole')
    .option('--schedule <when>', 'build by the clock: "every 30m", or cron as "15 3 * * *"')
    .option('--log-level <level>', 'trace, debug, info, warn, error, fatal or silent')
    .option('--json', 'one JSON line when ready, JSON logs')
    .action(serve);
}

interface ServeFlags extends ExportFlags {
  host?: string;
  port?: number;
  adminPort?: number;
  keys?: string;
  openAccess?: boolean;
  tlsCert?: string;
  tlsKey?: string;
  workers?: number;
  threads?: number;
  kernel?: string;
  rerankModule?: string;
  modelServer?: string;
  swap?: string;
  watch?: boolean;
  schedule?: string;
  logLevel?: string;
  json?: boolean;
}

async function serve(flags: ServeFlags): Promise<void> {
  const settings = loadSettings(
    exportSettings(flags, {
      host: flags.host,
      port: flags.port,
      admin_port: flags.adminPort,
      keys: flags.keys,
      open_access: flags.openAccess,
      tls_cert: flags.tlsCert,
      tls_key: flags.tlsKey,
      workers: flags.workers,
      threads: flags.threads,
      kernel: flags.kernel,
      rerank_module: flags.rerankModule,
      model_server: flags.modelServer,
      swap: flags.swap,
      watch_export: flags.watch,
      rebuild_schedule: flags.schedule,
      log_level: flags.logLevel,
    }),
  );
  const sink = openLogSink(2);
  const logger = makeLogger(settings.log_level, sink.stream);
  const progress = new ProgressLine();
  const stop = stopSignal();
  const link = await PrimaryLink.open();
  if (link === undefined) await assertPortFree(settings);
  // What there is to warn of, the primary has said once.
  const quiet = logger.child({}, { level: logger.isLevelEnabled('warn') ? 'error' : logger.level });
  const data = await DataFolder.open(dataFolder(settings));
  const access = await ServerAccess.open(settings, data.path, link === undefined ? logger : quiet);
  let isReused = true;
  if (link === undefined) {
    await data.cleanUp(); // what a process that was killed left
    isReused = !(await firstBuild(settings, data, { progress, signal: stop.signal }));
  }
  const asJson = flags.json === true;
  if (link === undefined && settings.workers > 1) {
    stop.release();
    access.close();
    return new Primary(settings, data, { logger, isReused, asJson, skippedSignals: [...CRASHES] }).start();
  }
  loadAddon().limitKeptMemory();
  loadAddon().yieldToRequests();
  if (settings.traces) await enableTracing();
  const metrics = new Metrics();
  sink.onDrop((lines) => metrics.overload.logDropped.inc(lines));
  const store = new GenerationStore();
  const upserts = await openUpserts(settings, store, metrics, (message) => logger.warn(message));
  const userFeatures = await openUserStores(settings, metrics, (name, reason) =>
    logger.warn({ feature_store: name, reason }, 'feature store'),
  );
  const traffic = openTraffic(settings, dataFolder(settings), store, metrics, (what, error) =>
    logger.warn({ what, code: error.code, err: error.message }, 'shadow'),
  );
  const retriever = new Retriever(
    store,
    metrics,
    (model, error) => logger.warn({ model, code: error.code, err: error.message }, 'degraded by a model'),
    upserts,
    userFeatures,
    settings,
    traffic,
  );
  const stopObserving = observeServer(settings, retriever, metrics);
  const follower = followerOf(data, settings, { retriever, upserts, metrics, logger });
  link?.attach({ retriever, metrics });
  const builds =
    link === undefined
      ? new ServerRebuilds(settings, data, { retriever, metrics, logger })
      : new PrimaryBuilds(link, data.path);
  const { rebuilder, nextScheduled } = builds;
  // Fastify's own information lines (it says that it listens) repeat ours.
  const appLogger = logger.child(
    {},
    { level: settings.access_log_share === 0 && logger.isLevelEnabled('info') ? 'warn' : logger.level },
  );
  const app = await buildApp({
    retriever,
    ...(settings.upserts ? { upserts } : {}),
    metrics,
    settings,
    rebuilder,
    ...(link === undefined ? {} : { workers: () => link.workers }),
    keys: access.keys,
    adminDoor: access.adminDoor,
    tls: access.tls,
    ...(settings.admin ? { admin: { data, rebuilder, follower, nextScheduled } } : {}),
    logger: appLogger,
    version: VERSION,
  });
  await builds.open();
  // A worker that comes later takes no requests before it can answer them. The first are alive, and not ready until they are.
  if (link?.isLate === true) await follower.start();
  const admin = await access.start(app, logger);
  const address = await listen(app, settings);
  const ending = closeWithGrace({ delay: DRAIN_MS, logger: false, skip: [...CRASHES] }, async ({ err }) => {
    if (err !== undefined) logger.fatal({ err }, 'stopping after an error');
    retriever.isDraining = true;
    await setTimeout(LATE_REQUESTS_MS);
    await Promise.all([app.close(), builds.close()]);
    access.close();
    await stopObserving();
    await follower.close();
    await upserts.close();
    await userFeatures.close();
    await traffic.shadows.close();
    await store.close();
  });
  if (link !== undefined) link.onStop = () => void (retriever.isDraining || ending.close());
  stop.release();
  if (link?.isLate !== true) await follower.start();

  const generation = store.peek();
  await builds.start(generation?.manifest);
  const facts: ServingFacts = {
    address,
    admin,
    ...(generation === undefined ? {} : { generation: generationFacts(generation) }),
    ...(follower.problem === undefined ? {} : { problem: pick(follower.problem) }),
  };
  if (link !== undefined) return link.serving(facts);
  if (generation === undefined) {
    const { code, message } = facts.problem!;
    logger.error({ code, err: message, address, admin }, 'no generation to serve: waiting for one to be published');
  } else if (!process.stdout.isTTY) {
    logger.info({ generation: generation.id, address, admin, reused: isReused }, 'serving');
  }
  announce(facts, isReused, asJson);
}

function pick({ code, message }: BelfryError): { code: string; message: string } {
  return { code, message };
}
