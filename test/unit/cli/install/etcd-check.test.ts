/** Where the settings for etcd come from, and what becomes of them. */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { CliHost } from '../../../../cli/host.ts';
import { findEtcdSettings, toEndpoints } from '../../../../cli/install/etcd-check.ts';
import { Root } from '../../../../cli/install/rooted.ts';
import { ParsedOptions } from '../../../../command/options.ts';

const test = suite('cli/install/etcd-check');
let folder = '';
test.before.each(() => {
  folder = mkdtempSync(join(tmpdir(), 'weft-etcd-check-'));
});
test.after.each(() => rmSync(folder, { recursive: true, force: true }));

const find = async (
  given: Record<string, string>,
  current: Record<string, string> = {},
  askLine?: CliHost['askLine'],
): Promise<Record<string, string>> =>
  Object.fromEntries(
    await findEtcdSettings(
      { askLine } as CliHost,
      new Root(folder),
      new ParsedOptions(new Map(Object.entries(given).map(([name, text]) => [name, [text]])), []),
      new Map(Object.entries(current)),
    ),
  );

test('options come first, an earlier installation needs none, and then flannel is asked', async () => {
  mkdirSync(join(folder, 'etc/sysconfig'), { recursive: true });
  writeFileSync(
    join(folder, 'etc/sysconfig/flanneld'),
    'FLANNEL_ETCD_ENDPOINTS="http://f:2379"\nFLANNEL_ETCD_PREFIX="/atomic.io/network"\n',
  );
  assert.equal(await find({ 'etcd-endpoints': 'http://a' }), { WEFTD_ETCD_ENDPOINTS: 'http://a' });
  assert.equal(await find({}, { WEFTD_ETCD_ENDPOINTS: 'http://b' }), {});
  assert.equal(await find({}), {
    WEFTD_ETCD_ENDPOINTS: 'http://f:2379',
    WEFTD_ETCD_PREFIX: '/atomic.io/network',
  });
});

test('a person at a terminal is asked; nobody else waits', async () => {
  assert.equal(await find({}, {}, async () => ' http://c \n'), { WEFTD_ETCD_ENDPOINTS: 'http://c' });
  for (const askLine of [undefined, async () => '']) {
    try {
      await find({}, {}, askLine);
      assert.unreachable();
    } catch (error) {
      assert.match(
        (error as Error).message,
        /^Cannot install without etcd's endpoints: give them with --etcd-endpoints/,
      );
    }
  }
});

test('the settings of weftd and of flanneld lead to etcd', () => {
  assert.equal(toEndpoints(new Map([['FLANNELD_ETCD_ENDPOINTS', 'http://a,b']])), {
    endpoints: ['http://a:2379', 'http://b:2379'],
    prefix: '/coreos.com/network',
  });
  const secure = new Map([
    ['WEFTD_ETCD_ENDPOINTS', 'https://a:1'],
    ['WEFTD_ETCD_PREFIX', '/x'],
    ['WEFTD_ETCD_CAFILE', '/ca'],
    ['WEFTD_ETCD_USERNAME', 'u'],
    ['WEFTD_ETCD_PASSWORD', ''],
  ]);
  assert.equal(toEndpoints(secure), { endpoints: ['https://a:1'], prefix: '/x', caFile: '/ca', username: 'u' });
});

test.run();
