import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { assertFits, type BuildPlan } from '../../../src/generation/build-plan.js';
import { memoryKills, memoryState } from '../../../src/generation/memory.js';
import { temporaryFolder } from '../../support/folders.js';
import { errorOf } from '../../support/errors.js';

function kernelFiles(files: Record<string, string>): string {
  const root = temporaryFolder();
  const all = { 'proc/meminfo': 'MemTotal:  8000 kB\nMemFree: 10 kB\nMemAvailable:  6000 kB\n', ...files };
  for (const [name, text] of Object.entries(all)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), text);
  }
  return root;
}

const KB = 1024;

describe('memory that is left', () => {
  it('is what the machine has when no control group sets a limit', () => {
    expect(memoryState(kernelFiles({}))).toEqual({
      limitBytes: 8000 * KB,
      availableBytes: 6000 * KB,
      by: 'machine',
    });
    const unlimited = kernelFiles({
      'proc/self/cgroup': '4:memory:/a\n0::/a\n',
      'sys/fs/cgroup/a/memory.max': 'max\n',
      'sys/fs/cgroup/a/memory.current': '999999\n',
      'sys/fs/cgroup/memory/a/memory.limit_in_bytes': '9223372036854771712\n',
      'sys/fs/cgroup/memory/a/memory.usage_in_bytes': '999999\n',
    });
    expect(memoryState(unlimited).by).toBe('machine');
  });

  it('is the least of the groups above, version 2, with the page cache that can be given back', () => {
    const root = kernelFiles({
      'proc/self/cgroup': '0::/slice/unit\n',
      'sys/fs/cgroup/slice/unit/memory.max': `${4000 * KB}\n`,
      'sys/fs/cgroup/slice/unit/memory.current': `${1000 * KB}\n`,
      'sys/fs/cgroup/slice/unit/memory.events': 'oom 3\noom_kill 2\n',
      'sys/fs/cgroup/slice/memory.max': `${3000 * KB}\n`,
      'sys/fs/cgroup/slice/memory.current': `${2500 * KB}\n`,
      'sys/fs/cgroup/slice/memory.stat': `anon 1\ninactive_file ${500 * KB}\n`,
    });
    expect(memoryState(root)).toEqual({ limitBytes: 3000 * KB, availableBytes: 1000 * KB, by: 'cgroup' });
    expect(memoryKills(root)).toBe(2);
  });

  it('is found for version 1 at the mount when the path is that of the host', () => {
    const root = kernelFiles({
      'proc/self/cgroup': '7:cpu:/x\n6:memory:/docker/abc\n',
      'sys/fs/cgroup/memory/memory.limit_in_bytes': `${2000 * KB}\n`,
      'sys/fs/cgroup/memory/memory.usage_in_bytes': `${1900 * KB}\n`,
      'sys/fs/cgroup/memory/memory.stat': `inactive_file 7\ntotal_inactive_file ${100 * KB}\n`,
      'sys/fs/cgroup/memory/memory.oom_control': 'oom_kill_disable 0\nunder_oom 0\noom_kill 5\n',
    });
    expect(memoryState(root)).toEqual({ limitBytes: 2000 * KB, availableBytes: 200 * KB, by: 'cgroup' });
    expect(memoryKills(root)).toBe(5);
  });

  it('is known of the machine that runs the tests', () => {
    const { limitBytes, availableBytes } = memoryState();
    expect(availableBytes).toBeGreaterThan(0);
    expect(limitBytes).toBeGreaterThanOrEqual(availableBytes);
  });
});

describe('pre-checks of a build', () => {
  const plan: BuildPlan = {
    items: 10,
    users: 0,
    dims: 8,
    writeBytes: 1000,
    freeBytes: 67_110_164,
    memoryBytes: 5000,
    availableMemoryBytes: 5000,
  };

  it('X3: let a build pass that just fits, and refuse one with the numbers that does not', async () => {
    expect(await errorOf(() => assertFits(plan, '/d'))).toBe('no error');
    expect(await errorOf(() => assertFits({ ...plan, freeBytes: 67_110_163 }, '/d'))).toMatch(
      /^BELFRY_DISK_SPACE \/d: the build needs 67110164 bytes free .* there are 67110163; free some/,
    );
    expect(await errorOf(() => assertFits({ ...plan, availableMemoryBytes: 4999 }, '/d'))).toMatch(
      /^BELFRY_MEMORY_SPACE the build needs 5000 bytes of memory, there are 4999 .*; raise the limit/,
    );
  });
});
