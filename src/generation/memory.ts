/**
 * How much memory this process may still take: what the machine has left, or less where a control group (a container, a
 * systemd unit) says so. Page cache that the kernel gives back when asked counts as left.
 */
import { readFileSync } from 'node:fs';
import { freemem, totalmem } from 'node:os';
import { dirname, join } from 'node:path';

export interface MemoryState {
  readonly limitBytes: number;
  readonly availableBytes: number;
  /** What sets the limit. */
  readonly by: 'machine' | 'cgroup';
}

/** Reads a handful of small kernel files; without them (no Linux) what Node knows. `root` is for tests. */
export function memoryState(root = '/'): MemoryState {
  const meminfo = read(join(root, 'proc/meminfo'));
  const kilobytes = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(meminfo ?? '')?.[1]) * 1024;
  const machine: MemoryState = {
    limitBytes: kilobytes('MemTotal') || totalmem(),
    availableBytes: kilobytes('MemAvailable') || freemem(),
    by: 'machine',
  };
  return groups(root)
    .map(stateOfGroup)
    .filter((state) => state !== undefined)
    .filter(({ limitBytes }) => limitBytes < machine.limitBytes) // version 1 writes "no limit" as a huge number
    .reduce((least, one) => (one.availableBytes < least.availableBytes ? one : least), machine);
}

/** Times the kernel has killed a process of this control group for want of memory; 0 where it does not say. */
export function memoryKills(root = '/'): number {
  const [own] = groups(root);
  if (own === undefined) return 0;
  const told = read(join(own.folder, own.version === 2 ? 'memory.events' : 'memory.oom_control')) ?? '';
  return Number(/^oom_kill (\d+)/m.exec(told)?.[1] ?? 0);
}

interface Group {
  readonly folder: string;
  readonly version: 1 | 2;
}

/** The control group of this process and those above it: each may set a limit. */
function groups(root: string): Group[] {
  const found: Group[] = [];
  for (const line of (read(join(root, 'proc/self/cgroup')) ?? '').split('\n')) {
    const [, controllers, path] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? [];
    if (path === undefined) continue;
    const version = controllers === '' ? 2 : 1;
    if (version === 1 && !controllers!.split(',').includes('memory')) continue;
    const mount = join(root, version === 2 ? 'sys/fs/cgroup' : 'sys/fs/cgroup/memory');
    // Inside a container the path may be that of the host, where only the mount itself is to be seen.
    for (let at = path; ; at = dirname(at)) {
      const folder = join(mount, at);
      if (read(join(folder, version === 2 ? 'memory.max' : 'memory.limit_in_bytes')) !== undefined)
        found.push({ folder, version });
      if (at === '/') break;
    }
  }
  return found;
}

function stateOfGroup({ folder, version }: Group): MemoryState | undefined {
  const limitBytes = Number(read(join(folder, version === 2 ? 'memory.max' : 'memory.limit_in_bytes'))); // "max" is NaN
  const used = Number(read(join(folder, version === 2 ? 'memory.current' : 'memory.usage_in_bytes')));
  if (!Number.isFinite(limitBytes) || !Number.isFinite(used)) return undefined;
  const stat = read(join(folder, 'memory.stat')) ?? '';
  const cache = Number(
    new RegExp(`^${version === 2 ? 'inactive_file' : 'total_inactive_file'} (\\d+)`, 'm').exec(stat)?.[1] ?? 0,
  );
  return { limitBytes, availableBytes: Math.max(0, limitBytes - used + cache), by: 'cgroup' };
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined; // not there, or not to be read: nothing is known
  }
}
