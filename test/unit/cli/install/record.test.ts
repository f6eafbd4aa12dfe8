/** The record of an installation: what is accepted when it is read. */

import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { emptyRecord, type Installation, parseRecord, readRecord, recordPath } from '../../../../cli/install/record.ts';
import { Root } from '../../../../cli/install/rooted.ts';

const test = suite('cli/install/record');
const hash = 'a'.repeat(64);
const whole: Installation = {
  ...emptyRecord('0.1.0'),
  files: [{ path: '/opt/cni/bin/weft', sha256: hash }],
  saved: [{ path: '/etc/default/weftd', copy: '/var/lib/weft/before-install/0-weftd', mode: 0o644 }],
  moved: [{ from: '/etc/cni/net.d/10-a.conf', to: '/etc/cni/net.d/10-a.conf.before-weft' }],
  folders: ['/opt/cni'],
  sysctls: { 'net/ipv4/ip_forward': '0', 'net/ipv6/conf/eth0.5/accept_ra': '1' },
  interfaces: ['lo', 'eth0.5'],
  tables: ['bridge nat'],
  network: 'cbr0',
};
const read = (change: object): Installation | undefined => parseRecord(JSON.stringify({ ...whole, ...change }));

test('a record comes back as it was written', () => {
  assert.equal(read({}), whole);
});

test('what an installation does not write is refused', () => {
  for (const change of [
    { format: 2 },
    { version: 7 },
    { files: [{ path: 'opt/weft', sha256: hash }] },
    { files: [{ path: '/opt/../etc/passwd', sha256: hash }] },
    { files: [{ path: '/opt//weft', sha256: hash }] },
    { files: [{ path: '/opt/a\nb', sha256: hash }] },
    { files: [{ path: '/opt/weft', sha256: 'x' }] },
    { files: Array.from({ length: 10_001 }, () => whole.files[0]) },
    { saved: [{ path: '/etc/a', copy: '/etc/shadow', mode: 0o644 }] },
    { saved: [{ path: '/etc/a', copy: '/var/lib/weft/before-install/0', mode: 0o4755 }] },
    { moved: [{ from: '/etc/cni/net.d/a', to: '/tmp/a' }] },
    { folders: ['/'] },
    { sysctls: { 'kernel/core_pattern': '1' } },
    { sysctls: { 'net/ipv4/../../kernel/core_pattern': '1' } },
    { sysctls: { 'net/ipv4/ip_forward': '|/tmp/x' } },
    { interfaces: ['a b'] },
    { enabled: 'yes' },
    { network: 1 },
  ]) {
    assert.is(read(change), undefined, JSON.stringify(change).slice(0, 100));
  }
  for (const text of ['', '[]', 'null', '{', '"x"']) assert.is(parseRecord(text), undefined);
});

test('a record of another owner is refused, and of root for everybody else', () => {
  if (process.geteuid?.() !== 0) return;
  const folder = mkdtempSync(join(tmpdir(), 'weft-record-'));
  try {
    chmodSync(folder, 0o755);
    mkdirSync(join(folder, 'var/lib/weft'), { recursive: true });
    const path = join(folder, recordPath);
    writeFileSync(path, JSON.stringify(whole), { mode: 0o600 });
    assert.equal(readRecord(new Root(folder)), whole);
    process.seteuid?.(65_534);
    try {
      assert.throws(() => readRecord(new Root(folder)), /: permission denied; run it as root; nothing was changed$/);
    } finally {
      process.seteuid?.(0);
    }
    chownSync(path, 65_534, 65_534);
    assert.throws(() => readRecord(new Root(folder)), /: another user owns it; nothing was changed$/);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

test.run();
