/** An ONNX file on disk: read, pinned by SHA-256 where the registry says so, with its external data kept in its folder. */
import { createHash } from 'node:crypto';
import { closeSync, fstatSync, openSync, readSync, realpathSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { setImmediate } from 'node:timers/promises';
import { dirname, isAbsolute, relative, resolve, sep } from 'node:path';
import { BelfryError } from '../errors.js';
import { externalTensors, modelInvalid, type OnnxModelFile, type OnnxTensor, readOnnx } from './onnx-graph.js';

/** What protobuf can hold in one message, and so the largest ONNX file there is. */
const FILE_BYTES_MAX = 2 ** 31 - 1;
const HASHED_BYTES = 1 << 20;

export interface LoadedOnnx {
  readonly bytes: Uint8Array;
  readonly model: OnnxModelFile;
  readonly sha256: string;
  /** Reads one external tensor of this file. */
  readonly readExternal: (tensor: OnnxTensor) => Uint8Array;
}

export async function loadOnnx(path: string, name: string, sha256?: string): Promise<LoadedOnnx> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_FS_FILE_TOO_LARGE') {
      throw modelInvalid(name, `the file is larger than ${FILE_BYTES_MAX} bytes, the limit of the format`, error);
    }
    throw new BelfryError('BELFRY_FILE_UNREADABLE', `model ${name}: ${(error as Error).message}`, {
      field: name,
      cause: error,
    });
  }
  if (bytes.length > FILE_BYTES_MAX)
    throw modelInvalid(name, `the file is larger than ${FILE_BYTES_MAX} bytes, the limit of the format`);
  const digest = await digestOf(bytes);
  if (sha256 !== undefined && sha256.toLowerCase() !== digest) {
    throw new BelfryError(
      'BELFRY_MODEL_INVALID',
      `model ${name}: the registry pins sha256 ${sha256.toLowerCase()}, the file has ${digest}; restore the file or update registry.yaml`,
      { field: name },
    );
  }
  const model = readOnnx(bytes, name);
  checkExternalData(model, path, name);
  return { bytes, model, sha256: digest, readExternal: (tensor) => readExternalTensor(tensor, path, name) };
}

/** In pieces of half a millisecond: others are answered meanwhile. */
async function digestOf(bytes: Uint8Array): Promise<string> {
  const hash = createHash('sha256');
  for (let at = 0; at < bytes.length; at += HASHED_BYTES) {
    hash.update(bytes.subarray(at, at + HASHED_BYTES));
    await setImmediate();
  }
  return hash.digest('hex');
}

/** Fault M4: external data must be a file inside the folder of the model, whatever links say. */
function checkExternalData(model: OnnxModelFile, path: string, name: string): void {
  for (const location of new Set(externalTensors(model.graph).map((tensor) => tensor.external!.location))) {
    externalPath(location, path, name);
  }
}

function externalPath(location: string, path: string, name: string): string {
  const refuse = (why: string, cause?: unknown): BelfryError =>
    new BelfryError(
      'BELFRY_MODEL_INVALID',
      `model ${name}: external data ${JSON.stringify(location)} ${why}; it must be a file in the folder of the model`,
      { field: name, ...(cause === undefined ? {} : { cause }) },
    );
  if (location === '' || location.includes('\0')) throw refuse('is not a file name');
  if (isAbsolute(location) || /^[a-z]:/i.test(location)) throw refuse('is an absolute path');
  if (location.split(/[\\/]/).includes('..')) throw refuse('leaves the folder');
  let folder: string;
  let real: string;
  try {
    folder = realpathSync(dirname(path));
    real = realpathSync(resolve(dirname(path), location));
  } catch (error) {
    throw refuse('is missing', error);
  }
  const inside = relative(folder, real);
  if (inside === '' || inside === '..' || inside.startsWith(`..${sep}`) || isAbsolute(inside))
    throw refuse('is a link that leaves the folder');
  return real;
}

function readExternalTensor(tensor: OnnxTensor, path: string, name: string): Uint8Array {
  const { location, offset, length } = tensor.external!;
  const wanted = length ?? tensor.dataBytes;
  const file = openSync(externalPath(location, path, name), 'r');
  try {
    // The size is checked before the buffer is made: a header may ask for more than there is.
    const { size } = fstatSync(file);
    if (wanted !== tensor.dataBytes || offset + wanted > size) {
      throw modelInvalid(
        name,
        `tensor ${tensor.name} needs ${tensor.dataBytes} bytes at ${offset} of ${location}, which has ${size} bytes`,
      );
    }
    const bytes = new Uint8Array(wanted);
    for (let at = 0; at < wanted;) {
      const got = readSync(file, bytes, at, wanted - at, offset + at);
      if (got === 0) throw modelInvalid(name, `${location} ends inside tensor ${tensor.name}`);
      at += got;
    }
    return bytes;
  } finally {
    closeSync(file);
  }
}
