/** The trace: a call leaves a line where it was asked to, and is never worse for it. `weftctl trace` shows the lines. */

import { existsSync, mkdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { readTraceLine } from '../../cli/trace/summary.ts';
import { traceLimitBytes } from '../../net/trace-file.ts';
import { execute } from '../lab/commands.ts';
import { root } from '../lab/project.ts';
import { fails, succeeds } from '../support/cni.ts';
import { fixture } from '../support/fixture.ts';
import { conformance } from './rows.ts';
import { type Site, Sites } from './site.ts';

const { before, after, test, run } = conformance('trace');
const sites = fixture(
  { before, after },
  () => new Sites('trace'),
  (made) => made.remove(),
);

function makeSite(): Site {
  const site = sites().make();
  site.writeNodeFile();
  return site;
}

const fileOf = (site: Site): string => join(site.runDir, 'trace');
const linesOf = (site: Site) =>
  readFileSync(fileOf(site), 'utf8')
    .trimEnd()
    .split('\n')
    .map((text) => readTraceLine(text)!);
const weftctl = (site: Site, ...args: string[]) =>
  execute([join(root, 'dist/bin/weftctl'), 'trace', '--run-dir', site.runDir, ...args]);

test('calls leave a line by the configuration or the environment, and none otherwise', () => {
  const site = makeSite();
  const pod = site.addPod();
  site.add(pod, site.overlay());
  site.delete(pod, site.overlay());
  assert.not(existsSync(fileOf(site)));
  const before = weftctl(site);
  assert.is(before.status, 1);
  assert.match(before.stderr, /No call has left a trace in ".*"\n.*set "trace": true/);

  site.add(pod, site.overlay({ trace: true }));
  fails(site.weft('ADD', pod, site.overlay({ trace: true })), 102);
  site.delete(pod, site.overlay(), { environment: { WEFT_TRACE: '1' } });
  site.delete(pod, site.overlay({ trace: false }), { environment: { WEFT_TRACE: '0' } });
  const lines = linesOf(site);
  assert.equal(
    lines.map(({ command, result, container, ifname, network }) => [command, result, container, ifname, network]),
    [
      ['ADD', 'ok', pod.id, 'eth0', 'weft'],
      ['ADD', 102, pod.id, 'eth0', 'weft'],
      ['DEL', 'ok', pod.id, 'eth0', 'weft'],
    ],
  );
  const [add] = lines;
  for (const stage of ['start', 'namespaces', 'node', 'store', 'network', 'settings', 'answer'] as const) {
    const times = add!.stages[stage];
    assert.ok(times && times.us >= times.kernelUs, `${stage} ${JSON.stringify(times)}`);
  }
  assert.ok(add!.us >= add!.kernelUs && add!.kernelUs > 0);
  assert.is(statSync(fileOf(site)).mode & 0o777, 0o600);

  const shown = weftctl(site);
  assert.is(shown.status, 0, shown.stderr);
  assert.match(shown.stdout, /The last 3 of 3 calls/);
  assert.match(shown.stdout, /error 102/);
  assert.match(shown.stdout, /^network +[\d.]+ +[\d.]+/m);
  const document = JSON.parse(weftctl(site, '--json', '--last', '1').stdout);
  assert.equal(document.last, [lines[2]]);
  assert.equal([document.calls, document.unread, document.slowest.length], [3, 0, 1]);
});

test('a file that is no trace is left alone, and the call is as good as without', () => {
  const site = makeSite();
  const pod = site.addPod();
  const configuration = site.overlay({ trace: true });
  const elsewhere = join(site.folder, 'elsewhere');
  const cases: Record<string, (path: string) => void> = {
    'a symbolic link': (path) => symlinkSync(elsewhere, path),
    'a folder': (path) => mkdirSync(path),
    'a FIFO': (path) => void execute(['mkfifo', path]),
    'a full device': (path) => symlinkSync('/dev/full', path),
  };
  for (const [name, make] of Object.entries(cases)) {
    make(fileOf(site));
    site.add(pod, configuration);
    site.delete(pod, configuration);
    assert.not(existsSync(elsewhere), name);
    rmSync(fileOf(site), { recursive: true });
  }
  for (const runDir of ['/proc/none/weft', '/dev/null/weft', 'relative', 7]) {
    succeeds(site.weft('DEL', pod, { ...configuration, runDir }));
  }
});

test('a full file makes room, and lines that cannot be read are counted', () => {
  const site = makeSite();
  const pod = site.addPod();
  const configuration = site.overlay({ trace: true });
  writeFileSync(fileOf(site), 'x'.repeat(traceLimitBytes - 1) + '\n', { mode: 0o600 });
  site.add(pod, configuration);
  site.delete(pod, configuration);
  assert.is(linesOf(site).length, 2);
  assert.is(statSync(`${fileOf(site)}.1`).size, traceLimitBytes);
  const shown = weftctl(site);
  assert.is(shown.status, 0, shown.stderr);
  assert.match(shown.stdout, /1 lines of the trace could not be read/);
});

run();
