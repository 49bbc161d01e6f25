/** The real service as a child process, on a port of its own, with the sample. */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
/** The first start makes the sample's generation. */
const READY_MS = 120_000;

export interface Service {
  readonly address: string;
  /** Of the administrators' listener, which has the page. */
  readonly admin: string;
  readonly generation: string;
  stop(): Promise<void>;
}

/** `from` names the export and the data folder; the sample by default. */
export function startService(from: readonly string[] = ['--sample']): Promise<Service> {
  const child = spawn(process.execPath, ['dist/cli/main.js', 'serve', ...from, '--port', '0', '--json'], {
    cwd: ROOT,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const stop = async (): Promise<void> => {
    child.kill('SIGTERM');
    const hard = setTimeout(() => child.kill('SIGKILL'), 15_000);
    await exited;
    clearTimeout(hard);
  };
  return new Promise((resolve, reject) => {
    let said = '';
    let complaints = '';
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      reject(new Error(`the service was not ready in ${READY_MS / 1000} s; it said:\n${said}${complaints}`));
    }, READY_MS);
    child.stderr.on('data', (chunk: Buffer) => {
      complaints += chunk.toString();
    });
    child.stdout.on('data', (chunk: Buffer) => {
      said += chunk.toString();
      const ready = parse(said);
      if (ready === undefined) return;
      clearTimeout(timer);
      resolve({ ...ready, stop });
    });
    child.once('exit', (code) => {
      clearTimeout(timer);
      reject(new Error(`the service ended with ${code} before it was ready; it said:\n${said}${complaints}`));
    });
  });
}

/** Undefined while the announcement is not whole. */
function parse(text: string): { address: string; admin: string; generation: string } | undefined {
  try {
    return JSON.parse(text) as { address: string; admin: string; generation: string };
  } catch {
    return undefined;
  }
}
