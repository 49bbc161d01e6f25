/** Whether a model server answers, for `belfry doctor`. One that does not is a warning: Belfry serves without it. */
import type { ModelServerSettings } from '../config/model-servers.js';
import { asBelfryError } from '../errors.js';
import { KserveClient } from '../rerank/kserve/kserve-client.js';

export async function modelServerState(server: ModelServerSettings): Promise<string | readonly ['warning', string]> {
  const client = new KserveClient(server);
  try {
    await client.mustBeReady();
    return `${server.url} is ready and takes ${(await client.takesBinary()) ? 'binary tensors' : 'JSON tensors'}`;
  } catch (error) {
    return ['warning', `${asBelfryError(error).message}; answers keep retrieval order until it does`];
  } finally {
    await client.close();
  }
}
