/**
 * Python as an outside judge: a virtual environment outside the repository, made once from py/requirements.txt and
 * found again by the hash of that file.
 */
import { execFile, execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const folder = fileURLToPath(new URL('./py/', import.meta.url));

/** Undefined when this machine has no Python 3.9 or newer with venv: then the tests are skipped, except in CI. */
export const hasPython: boolean =
  spawnSync('python3', ['-c', 'import sys, venv; sys.exit(sys.version_info < (3, 9))']).status === 0;

export interface Environment {
  /** In py/: what is installed. */
  readonly requirements: string;
  readonly python: string;
  /** Packages of the system are there too (Debian's PyTorch). */
  readonly seesSystem?: boolean;
}

const JUDGE: Environment = { requirements: 'requirements.txt', python: 'python3' };

/** The Python of a virtual environment, made at its first use: minutes for the large ones. */
export function environment({ requirements, python, seesSystem }: Environment = JUDGE): string {
  const file = join(folder, requirements);
  const hash = createHash('sha256').update(readFileSync(file)).digest('hex').slice(0, 12);
  const path = join(homedir(), '.cache', 'belfry', `interop-${hash}`);
  if (!existsSync(join(path, 'ready'))) {
    // Made beside and renamed, so that a stopped install is never taken for a whole one. venv paths are absolute, but
    // only its console scripts use them; we start its python.
    const made = `${path}.${process.pid}`;
    execFileSync(python, ['-m', 'venv', ...(seesSystem === true ? ['--system-site-packages'] : []), made]);
    execFileSync(
      join(made, 'bin', 'python'),
      ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '-r', file],
      { stdio: 'inherit' },
    );
    execFileSync('touch', [join(made, 'ready')]);
    if (existsSync(path)) rmSync(path, { recursive: true, force: true });
    renameSync(made, path);
  }
  return join(path, 'bin', 'python');
}

/** Path of `py/<script>`. */
export function scriptPath(script: string): string {
  return join(folder, script);
}

/** Runs `py/<script>` and resolves to what it printed. */
export async function runPython(script: string, args: readonly string[], within?: Environment): Promise<string> {
  const { stdout } = await promisify(execFile)(environment(within), [scriptPath(script), ...args], {
    maxBuffer: 1 << 28,
    // ONNX Runtime uploads usage events otherwise.
    env: { ...process.env, ORT_DISABLE_TELEMETRY: '1' },
  });
  return stdout;
}

/** For vitest's globalSetup: the install happens once and outside the tests' time limits. */
export function setup(): void {
  if (hasPython) environment();
  else if (process.env.CI) throw new Error('the interop tests need python3 with venv: apt-get install -y python3-venv');
}
