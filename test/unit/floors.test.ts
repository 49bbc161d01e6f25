import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const script = fileURLToPath(new URL('../../scripts/check-floors.mjs', import.meta.url));

function check(packages: Record<string, { version: string }>): string[] {
  const code = `import(${JSON.stringify(script)}).then((m) => console.log(JSON.stringify(m.belowFloors(${JSON.stringify({ packages })}))))`;
  return JSON.parse(execFileSync(process.execPath, ['-e', code], { encoding: 'utf8' }));
}

it('no installed package is below the version that mends a known advisory, and one that is would be named', () => {
  expect(execFileSync(process.execPath, [script], { encoding: 'utf8' })).toBe('');
  expect(
    check({
      '': { version: '0.1.0' },
      'node_modules/fastify': { version: '5.12.7' },
      'node_modules/x/node_modules/undici': { version: '6.99.0' },
      'node_modules/piscina': { version: '5.10.0' },
      'node_modules/@fastify/static': { version: '10.1.3' },
    }),
  ).toEqual([
    expect.stringMatching(/^fastify 5\.12\.7 is below 5\.12\.8/),
    expect.stringMatching(/^undici 6\.99\.0 is below 7\.24\.0/),
  ]);
});
