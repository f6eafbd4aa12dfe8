/**
 * DEL returns when the interface is gone. What the kernel does after that is waited for by another process, and no container
 * runtime may notice that one.
 */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import type { PodSpace } from '../lab/bare-host.ts';
import { findProgram } from '../lab/commands.ts';
import { readLinks } from '../lab/kernel-state.ts';
import { pluginHost } from '../lab/plugin.ts';
import { fixture } from '../support/fixture.ts';
import { conformance } from './rows.ts';
import { type Site, Sites } from './site.ts';

const { before, after, test, run } = conformance('early-removal');
const sites = fixture(
  { before, after },
  () => new Sites('early'),
  (made) => made.remove(),
);

interface Attached {
  readonly site: Site;
  readonly pod: PodSpace;
  readonly configuration: Record<string, unknown>;
}

/** One attached container among others. */
function attach(): Attached {
  const site = sites().make();
  site.writeNodeFile();
  const [other, pod] = site.addPods(2) as [PodSpace, PodSpace];
  const configuration = site.overlay();
  site.add(other, configuration);
  site.add(pod, configuration);
  return { site, pod, configuration };
}

function assertGone({ site, pod }: Attached): void {
  const ends = readLinks(site.namespace).filter(({ kind }) => kind === 'veth');
  assert.is(ends.length, 1, 'only the other container is attached');
  assert.equal(readLinks(pod.namespace), []);
  assert.is(site.reservations('weft').length, 1);
}

const calls = (file: string, name: string): string[] =>
  readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line.includes(`${name}(`));

if (pluginHost !== 'bun') {
  test('another process waits for the kernel', () => {
    const attached = attach();
    const { site, pod, configuration } = attached;
    const file = join(site.folder, 'trace');
    site.delete(pod, configuration, { through: ['strace', '-qq', '-e', 'trace=clone', '-o', file] });
    assert.is(calls(file, 'clone').length, 1);
    assert.match(calls(file, 'clone')[0]!, /CLONE_VM/);
    assertGone(attached);
  });

  test('a runtime that takes orphans gets one that has ended well, and waits neither for it nor for its descriptors', () => {
    const attached = attach();
    const { site, pod, configuration } = attached;
    const through = [process.execPath, join(import.meta.dirname, 'early-removal.main.ts')];
    const { document } = site.weft('DEL', pod, configuration, { through });
    const { status, stdout, links, orphans } = document as unknown as {
      status: number;
      stdout: string;
      links: string;
      orphans: number[];
    };
    assert.equal({ status, stdout }, { status: 0, stdout: '' });
    assert.is(links.split('\n').length, 1, links);
    assert.ok(orphans.length <= 1 && orphans.every((ended) => ended === 0), orphans.join());
    assertGone(attached);
  });
}

test('as the child of process 1, which may collect no orphans, DEL leaves no process', () => {
  const attached = attach();
  const { site, pod, configuration } = attached;
  const script = '"$0" "$@"; status=$?; echo /proc/[0-9]* >&2; exit $status';
  const through = ['unshare', '--pid', '--fork', '--mount-proc', 'sh', '-c', script];
  const outcome = site.weft('DEL', pod, configuration, { through });
  assert.equal([outcome.status, outcome.stdout, outcome.stderr], [0, '', '/proc/1\n']);
  assertGone(attached);
});

if (pluginHost !== 'bun') {
  test('where no other process can be made, DEL itself waits for the kernel', () => {
    const attached = attach();
    const { site, pod, configuration } = attached;
    const fault = ['-e', 'trace=clone', '-e', 'inject=clone:error=EAGAIN'];
    site.delete(pod, configuration, { through: ['strace', '-qq', '-o', join(site.folder, 'trace'), ...fault] });
    assertGone(attached);
  });

  test('a user who may have one process waits for the kernel', () => {
    // Limits of root's processes do not hold for root: this is another user, with what a plugin needs.
    const attached = attach();
    const { site, pod, configuration } = attached;
    const abilities = '+net_admin,+sys_admin,+dac_override,+fowner,+sys_ptrace';
    const user = ['--reuid', '61234', '--clear-groups', '--inh-caps', abilities, '--ambient-caps', abilities];
    const through = [findProgram('prlimit'), '--nproc=1', findProgram('setpriv'), ...user];
    site.delete(pod, configuration, { through });
    assertGone(attached);
  });
}

run();
