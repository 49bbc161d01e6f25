/**
 * The files of a model version, wherever MLflow keeps them: proxied by the server (`mlflow-artifacts:/`), or in a folder of
 * this machine below `mlflow_file_root`. Other stores are reached through the server, which is started for that.
 */
import { createReadStream, realpathSync } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join, posix, sep } from 'node:path';
import { type ArtifactFile, invalidAnswer, type MlflowClient } from './mlflow-client.js';

export interface Artifacts {
  list(folder: string): Promise<ArtifactFile[]>;
  read(file: string): Promise<AsyncIterable<Buffer>>;
}

/** `what` names the version in messages. Errors: BELFRY_MLFLOW_INVALID, those of the client. */
export function artifactsAt(uri: string, what: string, client: MlflowClient, fileRoot: string | undefined): Artifacts {
  const proxied = /^mlflow-artifacts:(\/\/[^/]*)?\/+(.*)$/.exec(uri);
  if (proxied !== null) {
    if ((proxied[1] ?? '//') !== '//')
      throw invalidAnswer(what, `its artifacts are at ${uri}, which names a host; only mlflow_url is called`);
    const root = plainPath(proxied[2]!, what);
    return {
      list: (folder) => client.list(posix.join(root, folder), what),
      read: (file) => client.download(posix.join(root, file), what),
    };
  }
  if (uri.startsWith('file:') || uri.startsWith('/')) return localArtifacts(uri, what, fileRoot);
  throw invalidAnswer(
    what,
    `its artifacts are at ${uri.split(':')[0]}:…, which Belfry does not read; start mlflow server with --serve-artifacts, then log the model again`,
  );
}

function localArtifacts(uri: string, what: string, fileRoot: string | undefined): Artifacts {
  if (fileRoot === undefined)
    throw invalidAnswer(
      what,
      `its artifacts are the files ${uri}; set mlflow_file_root to the folder that may be read`,
    );
  const root = real(uri.startsWith('file:') ? decodeURIComponent(uri.replace(/^file:(\/\/)?/, '')) : uri, what);
  const within = (path: string): string => {
    const [full, allowed] = [real(path, what), real(fileRoot, what)];
    if (full !== allowed && !full.startsWith(allowed.endsWith(sep) ? allowed : allowed + sep))
      throw invalidAnswer(what, `its artifacts are at ${full}, which is not below mlflow_file_root ${fileRoot}`);
    return full;
  };
  within(root);
  return {
    async list(folder) {
      const entries = await readdir(within(join(root, folder)), { withFileTypes: true });
      return Promise.all(
        entries.map(async (entry) => ({
          path: entry.name,
          isFolder: entry.isDirectory(),
          bytes: entry.isDirectory() ? undefined : (await stat(join(root, folder, entry.name))).size,
        })),
      );
    },
    read: async (file) => createReadStream(within(join(root, file))),
  };
}

function real(path: string, what: string): string {
  try {
    return realpathSync(path);
  } catch (error) {
    throw invalidAnswer(what, `its artifacts cannot be read: ${(error as Error).message}`);
  }
}

/** What stands in an answer may not climb out of where it belongs. */
export function plainPath(path: string, what: string): string {
  const parts = path.split('/');
  if (parts.some((part) => part === '' || part === '.' || part === '..' || /[\0\\]/.test(part)))
    throw invalidAnswer(what, `${JSON.stringify(path.slice(0, 200))} is no plain path`);
  return path;
}
