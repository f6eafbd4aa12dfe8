/** Inputs that no chance finds: endless files, plugins that misbehave, amounts. One error document each, and nothing left. */

import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type Site, Sites } from '../conformance/site.ts';
import { type Outcome, pluginFolder } from '../lab/plugin.ts';
import { timed } from '../lab/wait.ts';
import { fails, own, succeeds } from '../support/cni.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('odd');
const sites = fixture(
  test,
  () => new Sites('odd'),
  (made) => made.remove(),
);

const v4 = { subnet: '10.1.2.0/24' };
/** Far more than any of them needs. */
const deadlineMs = 10_000;

async function inTime(call: () => Outcome, what = 'the call'): Promise<Outcome> {
  const { result, ms } = await timed(call);
  assert.ok(ms < deadlineMs, `${what} takes ${ms.toFixed(0)} ms`);
  return result;
}

type Codes = Parameters<typeof fails>[1];

/** ADD fails with one of the codes, and nothing is left. */
async function refused(site: Site, configuration: unknown, codes: Codes, path?: string): Promise<void> {
  const pod = site.pods[0] ?? site.addPod();
  const outcome = await inTime(() => site.weft('ADD', pod, configuration, path === undefined ? {} : { path }));
  site.refuses(() => outcome, codes);
  assert.equal(site.reservations(), []);
  assert.ok(outcome.document!.msg!.length < 2000, `a message of ${outcome.document!.msg!.length} characters`);
}

test('a file that never ends is refused with one error', async () => {
  const site = sites().make();
  for (const path of ['/dev/zero', '/dev/urandom']) {
    await refused(site, site.bridge({}, { ...v4, resolvConf: path }), [5, 7, 103, 108]);
    await refused(site, site.overlay({ name: 'net', subnetFile: path }), [5, 7, 11, 108]);
  }
  mkdirSync(join(site.folder, 'loop'));
  await refused(site, site.bridge({}, { ...v4, dataDir: '/dev/null' }), own);
  await refused(site, site.bridge({}, { ...v4, dataDir: '/proc/sys' }), own);
});

test('Weft as its own IPAM plugin is refused', async () => {
  const site = sites().make();
  for (const type of ['weft', './weft', '../bin/weft', 'weft-ipam/../weft']) {
    await refused(site, { ...site.bridge(), ipam: { type, ...v4 } }, [2, 7, 50, 109]);
  }
});

test('twenty megabytes on stdin are refused with one error', async () => {
  const site = sites().make();
  await refused(site, { ...site.bridge(), filler: 'x'.repeat(20 << 20) }, [5, 6]);
});

test('ADD, CHECK, GC and DEL cope with thousands of routes and attachments and sixty sets', async () => {
  const site = sites().make();
  const pod = site.addPod();
  const routes = Array.from({ length: 2000 }, (_, i) => ({ dst: `172.${16 + (i >> 8)}.${i & 255}.0/24` }));
  const ranges = Array.from({ length: 60 }, (_, i) => [{ subnet: `10.${i}.0.0/24` }]);
  const configuration = site.bridge({ cniVersion: '1.1.0' }, { ranges, routes });
  const result = succeeds(await inTime(() => site.weft('ADD', pod, configuration), 'ADD'));
  assert.is(result.ips?.length, 60);
  assert.is(result.routes?.length, 2000);
  succeeds(await inTime(() => site.check(pod, configuration, result), 'CHECK'));
  const valid = Array.from({ length: 20_000 }, (_, i) => ({ containerID: `pod-${i + 1}`, ifname: 'eth0' }));
  const gc = { ...configuration, 'cni.dev/valid-attachments': valid };
  succeeds(await inTime(() => site.call('weft', { command: 'GC', stdin: gc }), 'GC'));
  assert.is(site.reservations().length, 60);
  site.delete(pod, configuration);
  assert.equal(site.reservations(), []);
});

/** A plugin of a few lines. It takes its input, as every plugin does, unless it is the one that does not. */
function writePlugin(site: Site, name: string, lines: readonly string[], reads = true): void {
  const path = join(site.folder, name);
  writeFileSync(path, ['#!/bin/sh', ...(reads ? ['cat > /dev/null'] : []), ...lines, ''].join('\n'));
  chmodSync(path, 0o755);
}

const address = (text: string): string => `{"cniVersion":"1.0.0","ips":[{"address":"${text}"}]}`;

test('an IPAM plugin that misbehaves gives one error, and nothing is left', async () => {
  const site = sites().make();
  const path = `${pluginFolder}:${site.folder}`;
  const plugins: readonly [string, readonly string[]][] = [
    ['silent', []],
    ['silent-failing', ['exit 3']],
    ['twice', [`echo '${address('10.1.2.3/24')}'`, `echo '${address('10.1.2.3/24')}'`]],
    ['garbage', ['echo garbage']],
    ['a-list', ["echo '[]'"]],
    ['a-null', ["echo 'null'"]],
    ['no-address', ['echo \'{"cniVersion":"1.0.0"}\'']],
    ['bad-address', [`echo '${address('x')}'`]],
    ['no-length', [`echo '${address('10.1.2.3')}'`]],
    ['long-length', [`echo '${address('10.1.2.3/64')}'`]],
    ['other-version', ['echo \'{"cniVersion":"9.9.9","ips":[]}\'']],
    ['old-version', ['echo \'{"cniVersion":"0.2.0","ip4":{"ip":"10.1.2.3/24"}}\'']],
    ['code-a-text', ['echo \'{"code":"7","msg":"no"}\'', 'exit 1']],
    ['error-with-success', ['echo \'{"code":7,"msg":"no"}\'']],
    ['killed', ['kill -9 $$']],
    ['stderr-alone', ['echo "went wrong" >&2', 'exit 1']],
    ['deep', ['awk \'BEGIN { for (i = 0; i < 20000; i++) printf "[" }\'']],
    ['large', ['head -c 40000000 /dev/zero']],
  ];
  for (const [name, lines] of plugins) {
    writePlugin(site, name, lines);
    const configuration = { ...site.bridge({ cniVersion: '1.0.0', isGateway: true }), ipam: { type: name } };
    const pod = site.pods[0] ?? site.addPod();
    const outcome = await inTime(() => site.weft('ADD', pod, configuration, { path }));
    try {
      // The bridge may have been made; the container's side may not.
      const document = fails(outcome, [1, 4, 5, 6, 7, 107, 108, 109]);
      assert.ok(`${document.msg}`.length < 2000);
    } catch (error) {
      throw new Error(`${name}: ${error instanceof Error ? error.message : error}`);
    }
    assert.equal(
      site.refuses(() => outcome, [1, 4, 5, 6, 7, 107, 108, 109], undefined, [pod.namespace]).code,
      outcome.document?.code,
    );
  }
});

test('an IPAM plugin that does not read its input works', async () => {
  const site = sites().make();
  writePlugin(site, 'deaf', [`[ "$CNI_COMMAND" = ADD ] && echo '${address('10.1.2.3/24')}'`, 'exit 0'], false);
  const pod = site.addPod();
  const configuration = {
    ...site.bridge({ cniVersion: '1.0.0' }),
    ipam: { type: 'deaf', filler: 'x'.repeat(1 << 20) },
  };
  const path = `${pluginFolder}:${site.folder}`;
  const result = succeeds(await inTime(() => site.weft('ADD', pod, configuration, { path })));
  assert.is(result.ips?.[0]?.address, '10.1.2.3/24');
  succeeds(await inTime(() => site.weft('DEL', pod, configuration, { path })));
});

test('a file of any kind that is no namespace is refused', async () => {
  const site = sites().make();
  const pod = site.addPod();
  const file = join(site.folder, 'file');
  writeFileSync(file, '');
  for (const netns of [
    file,
    site.folder,
    '/dev/null',
    '/dev/zero',
    '/proc/self/ns/mnt',
    '/proc/self/mem',
    '/dev/tty',
    '\n',
    '/run/netns/absent-namespace',
  ]) {
    const outcome = await inTime(() => site.weft('ADD', pod, site.bridge(), { netns }));
    site.refuses(() => outcome, 8);
    assert.equal(site.reservations(), []);
  }
});

test.run();
