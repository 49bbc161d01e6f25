/** `belfry doctor`: what this machine and this models folder lack, each with its cure. Exit code 3 when something fails. */
import { readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { availableParallelism, totalmem } from 'node:os';
import { access, constants, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from 'commander';
import { loadAddon } from '../ann/addon.js';
import { dataFolder, loadSettings } from '../config/load.js';
import { readFeatureStores } from '../config/feature-stores.js';
import type { BroughtModels } from '../config/mlflow.js';
import { readModelsFolder } from '../config/models-folder.js';
import { readModelServers } from '../config/model-servers.js';
import { mlflowReferences } from '../config/registry.js';
import { isObjectAddress } from '../config/object-address.js';
import { objectStoreSettings, type Settings } from '../config/schema.js';
import { asBelfryError } from '../errors.js';
import type { ModelTableRow } from '../generation/model-table.js';
import { DataFolder } from '../generation/data-folder.js';
import { rehearseBuild } from '../generation/rehearse.js';
import { latestLooker, prefixLooker } from '../object-store/looks.js';
import { bringModels } from '../registry/bring-models.js';
import type { Id } from '../types.js';
import { featureStoreState } from './feature-store-state.js';
import { liveRegistry, registryOf, registryText, withLive } from './registry-table.js';
import { modelServerState } from './model-server-state.js';
import { accessState } from './access.js';
import { addExportOptions, type ExportFlags, exportSettings } from './export-options.js';
import { colors, formatBytes, numberOf, print, printJson } from './terminal.js';

interface Finding {
  readonly check: string;
  readonly status: 'ok' | 'warning' | 'failed';
  readonly detail: string;
}

export function addDoctor(program: Command): void {
  addExportOptions(program.command('doctor'))
    .description('check this machine and a models folder, and say how to mend what is wrong')
    .option('--port <n>', 'port that serve would take', numberOf('--port'))
    .option('--model-server <url>', 'KServe v2 server that serve would ask')
    .option('--json', 'as JSON')
    .action(doctor);
}

async function doctor(flags: ExportFlags & { port?: number; modelServer?: string; json?: boolean }): Promise<void> {
  const findings: Finding[] = [];
  const check = async (
    name: string,
    work: () =>
      | Promise<string | Finding['status'] | readonly [Finding['status'], string]>
      | string
      | readonly [Finding['status'], string],
  ) => {
    try {
      const result = await work();
      if (typeof result === 'string') findings.push({ check: name, status: 'ok', detail: result });
      else findings.push({ check: name, status: result[0], detail: result[1] });
    } catch (error) {
      findings.push({ check: name, status: 'failed', detail: asBelfryError(error).message });
    }
  };

  await check('node', nodeVersion);
  await check('native core', () => {
    const { kernels, cpu } = loadAddon();
    return `${kernels.join(', ')} on ${cpu.model} (${cpu.features.join(' ')})`;
  });
  await check('machine', () => `${availableParallelism()} CPUs, ${formatBytes(totalmem())} of memory`);
  let settings: Settings | undefined;
  let brought: BroughtModels | undefined;
  let registry: ModelTableRow[] = [];
  await check('settings', () => {
    settings = loadSettings(exportSettings(flags, { port: flags.port, model_server: flags.modelServer }));
    return `models ${settings.models}, data ${dataFolder(settings)}`;
  });
  if (settings !== undefined) {
    const { models, host, port } = settings;
    const data = dataFolder(settings);
    const isRemote = isObjectAddress(models);
    if (isRemote) await check('object store', () => objectStoreState(settings as Settings));
    else {
      if (mlflowReferences(models).length > 0)
        await check('mlflow', async () => {
          await DataFolder.open(data);
          brought = await bringModels(models, data, settings as Settings);
          const pins = Object.entries(brought?.models ?? {}).map(
            ([what, { pin }]) => `${what} is version ${pin.version}`,
          );
          return pins.join(', ');
        });
      await check('models folder', () => {
        const folder = readModelsFolder(models, brought);
        return `${folder.models.length} models registered, user tower: ${folder.userTower?.name ?? 'none'}`;
      });
    }
    await check('data folder', async () => {
      await DataFolder.open(data);
      await access(data, constants.W_OK);
      const { bavail, bsize } = await statfs(data);
      return `${data}, ${formatBytes(bavail * bsize)} free`;
    });
    const servers = readModelServers(settings);
    for (const server of servers) await check(`server ${server.name}`, () => modelServerState(server));
    for (const store of readFeatureStores(settings))
      await check(`store ${store.name}`, () => featureStoreState(store, isRemote ? 0 : exampleUser(models)));
    if (!isRemote) {
      for (const step of rehearseBuild(models, servers, brought)) await check(step.name, step.run);
      registry = await registryOf(models, brought, servers).catch(() => []); // what is wrong with it stands above
      registry = withLive(registry, await liveRegistry(host, port));
    }
    await check('port', () => portState(host, port));
    await check('access', () => accessState(settings as Settings));
  }

  const failed = findings.some(({ status }) => status === 'failed');
  if (flags.json) printJson({ healthy: !failed, findings, models: registry });
  else {
    for (const { check: name, status, detail } of findings) print(`${SIGNS[status]} ${name.padEnd(16)} ${detail}`);
    if (registry.length > 0) print(`\n${registryText(registry)}`);
  }
  if (failed) process.exitCode = 3;
}

/** Whom to ask a feature store for: a user that the export knows. */
function exampleUser(models: string): Id {
  const { exportDescription, userIds } = readModelsFolder(models, 'left out');
  const [named] = exportDescription.example_users ?? [];
  if (named !== undefined) return named;
  if (userIds?.endsWith('.txt') !== true) return 0;
  return readFileSync(join(models, userIds), 'utf8').split('\n', 1)[0]!;
}

const SIGNS = { ok: colors.green('✓'), warning: colors.yellow('!'), failed: colors.red('✗') };

function nodeVersion(): readonly [Finding['status'], string] {
  const version = process.versions.node;
  if (version.startsWith('20.'))
    return ['warning', `${version}: works, but gets no security fixes since 2026-04-30; use 22 or 24 in production`];
  return ['ok', version];
}

/** One look; the export itself is checked by a build, which brings it here. */
async function objectStoreState(settings: Settings): Promise<string | readonly [Finding['status'], string]> {
  const { models, pull_from } = settings;
  const looker = pull_from === undefined ? prefixLooker : latestLooker;
  const look = await looker(models, objectStoreSettings(settings))();
  if (look === undefined) return ['failed', `${models} can be read, and is empty`];
  return `${models} can be read${pull_from === undefined && look.success === undefined ? ' (no _SUCCESS)' : ''}`;
}

function portState(host: string, port: number): Promise<readonly [Finding['status'], string]> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', (error: NodeJS.ErrnoException) => {
      resolve(['warning', `${host}:${port} cannot be taken now (${error.code}); choose another with --port`]);
    });
    probe.listen(port, host, () => probe.close(() => resolve(['ok', `${host}:${port} is free`])));
  });
}
