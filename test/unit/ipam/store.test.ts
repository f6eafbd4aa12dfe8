import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { CniError } from '../../../cni/spec/errors.ts';
import { withDiskStore, withExistingDiskStore } from '../../../ipam/store.ts';
import { sys } from '../../../linux/sys-bun.ts';
import { formatAddress, parseAddress } from '../../../net/address.ts';

const test = suite('ipam/store');

let base = '';
test.before.each(() => {
  base = mkdtempSync(join(tmpdir(), 'weft-store-'));
});
test.after.each(() => rmSync(base, { recursive: true, force: true }));

const address = (text: string) => parseAddress(text)!;
const holder = (containerId: string, ifname = 'eth0') => ({ containerId, ifname });
const folder = () => join(base, 'data', 'net');

test("the store's files are host-local's, byte for byte", () => {
  withDiskStore(sys, folder(), (store) => {
    assert.ok(store.reserve(address('10.0.0.2'), holder('abc')));
    assert.not(store.reserve(address('10.0.0.2'), holder('other')));
    assert.ok(store.reserve(address('fd00::2'), holder('abc')));
    store.setLastReserved(0, address('10.0.0.200'));
    store.setLastReserved(0, address('10.0.0.2'));
  });
  assert.equal(readdirSync(folder()).sort(), ['10.0.0.2', 'fd00::2', 'last_reserved_ip.0', 'lock']);
  assert.is(readFileSync(join(folder(), '10.0.0.2'), 'latin1'), 'abc\r\neth0');
  assert.is(readFileSync(join(folder(), 'last_reserved_ip.0'), 'latin1'), '10.0.0.2');
  assert.is(statSync(join(folder(), '10.0.0.2')).mode & 0o777, 0o600);
  assert.is(statSync(folder()).mode & 0o777, 0o755);
});

test('the store finds, releases and remembers addresses', () => {
  withDiskStore(sys, folder(), (store) => {
    store.reserve(address('10.0.0.2'), holder('abc'));
    store.reserve(address('10.0.0.3'), holder('abc', 'eth1'));
    store.reserve(address('10.0.0.4'), holder('abcd'));
    assert.is(store.lastReserved(0), undefined);
  });
  withDiskStore(sys, folder(), (store) => {
    assert.equal(store.find(holder('abc')).map(formatAddress), ['10.0.0.2']);
    assert.equal(store.find(holder('ab')), []);
    assert.ok(store.isReserved(address('10.0.0.4')));
    store.release(address('10.0.0.2'), holder('abc'));
    store.release(address('10.0.0.2'), holder('abc'));
    assert.not(store.isReserved(address('10.0.0.2')));
    assert.is(store.list().length, 2);
  });
});

test('a record of an old host-local holds only the id, and is found', () => {
  mkdirSync(folder(), { recursive: true });
  writeFileSync(join(folder(), '10.0.0.2'), 'abc');
  writeFileSync(join(folder(), '10.0.0.3'), 'abc\r\neth1\n');
  withDiskStore(sys, folder(), (store) => {
    assert.equal(store.find(holder('abc')).map(formatAddress), ['10.0.0.2']);
    assert.equal(store.find(holder('abc', 'eth1')).map(formatAddress), ['10.0.0.3']);
  });
});

test('files of others are tolerated: empty records are freed, other names and a broken last address are ignored', () => {
  mkdirSync(folder(), { recursive: true });
  for (const name of ['10.0.0.2', 'last_reserved_ip.0', '.weft-reservation']) writeFileSync(join(folder(), name), '');
  writeFileSync(join(folder(), 'deadbeef'), 'abc\r\neth0');
  mkdirSync(join(folder(), 'some-folder'));
  withDiskStore(sys, folder(), (store) => {
    assert.equal(store.find(holder('abc')), []);
    assert.not(store.isReserved(address('10.0.0.2')));
    assert.is(store.lastReserved(0), undefined);
    assert.ok(store.reserve(address('10.0.0.2'), holder('abc')));
  });
  assert.is(readFileSync(join(folder(), '10.0.0.2'), 'latin1'), 'abc\r\neth0');
});

test('a call that only removes makes no folder', () => {
  assert.is(
    withExistingDiskStore(sys, folder(), () => 1),
    undefined,
  );
  assert.equal(readdirSync(base), []);
});

test('an unusable store gives one clear error', () => {
  writeFileSync(join(base, 'data'), '');
  try {
    withDiskStore(sys, folder(), () => undefined);
    assert.unreachable();
  } catch (error) {
    assert.instance(error, CniError);
    assert.is((error as CniError).code, 103);
    assert.match((error as CniError).message, /^Cannot use the address store ".*\/data\/net": /);
  }
  chmodSync(join(base, 'data'), 0o600);
});

test.run();
