import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { CniError } from '../../../cni/spec/errors.ts';
import { withDiskStore, withExistingDiskStore } from '../../../ipam/store.ts';
import type { Sys } from '../../../linux/sys.ts';
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

test('a folder named like an address counts as taken, is told once, and stops nothing', () => {
  mkdirSync(join(folder(), '10.0.0.4'), { recursive: true });
  mkdirSync(join(folder(), 'last_reserved_ip.0'));
  const told: string[] = [];
  const listening: Sys = {
    ...sys,
    write: (fd, buffer, offset, length) =>
      fd === 2 ? told.push(sys.decodeUtf8(buffer, offset, length)) && length : sys.write(fd, buffer, offset, length),
  };
  for (const name of ['10.0.0.2', '10.0.0.3']) {
    withDiskStore(listening, folder(), (store) => {
      assert.equal(store.find(holder('abc')), []);
      assert.ok(store.isReserved(address('10.0.0.4')));
      assert.not(store.reserve(address('10.0.0.4'), holder('abc')));
      assert.ok(store.reserve(address(name), holder(`holder-of-${name}`)));
      assert.is(store.lastReserved(0), undefined);
    });
  }
  assert.is(told.length, 1, told.join(''));
  assert.match(told[0]!, /has entries that are no reservations: "10\.0\.0\.4" is a folder/);
  withDiskStore(listening, folder(), (store) => {
    store.setLastReserved(0, address('10.0.0.3'));
    assert.is(store.list().length, 2);
    store.release(address('10.0.0.2'), holder('holder-of-10.0.0.2'));
  });
  assert.match(told.join(''), /last_reserved_ip\.0" is no regular file/);
  assert.ok(statSync(join(folder(), '10.0.0.4')).isDirectory());
});

test('FIFOs in the store and in its index stop nothing', () => {
  withDiskStore(sys, folder(), (store) => assert.equal(store.find(holder('abc')), []));
  const index = join(base, 'data', '.weft', 'net');
  const fifo = (path: string) => {
    rmSync(path, { force: true });
    execFileSync('mkfifo', [path]);
  };
  fifo(join(folder(), '10.0.0.3'));
  fifo(join(folder(), 'last_reserved_ip.0'));
  const call = () =>
    withDiskStore(sys, folder(), (store) => {
      assert.equal(store.find(holder('abc')), []);
      assert.is(store.lastReserved(0), undefined);
      assert.ok(store.reserve(address('10.0.0.2'), holder('abc')));
      assert.not(store.reserve(address('10.0.0.3'), holder('abc')));
      store.setLastReserved(0, address('10.0.0.2'));
    });
  const free = () =>
    withDiskStore(sys, folder(), (store) => {
      assert.equal(store.find(holder('abc')).map(formatAddress), ['10.0.0.2']);
      store.release(address('10.0.0.2'), holder('abc'));
    });
  call();
  const shard = readdirSync(index).find((name) => /^[0-9a-f]{2}$/.test(name))!;
  free();
  fifo(join(index, shard));
  call();
  free();
  assert.equal(readdirSync(folder()).sort(), ['10.0.0.3', 'last_reserved_ip.0', 'lock']);
});

test('a store whose lock is kept says to try again later', () => {
  withDiskStore(sys, folder(), () => undefined);
  const fd = sys.open(join(folder(), 'lock'), 2, 0);
  sys.flock(fd, 2);
  let nowMs = 0;
  const poll = (_fd: number, timeoutMs: number): number => {
    nowMs += timeoutMs;
    return 0;
  };
  const waiting: Sys = { ...sys, clock_gettime: () => nowMs, poll };
  for (const access of [withDiskStore, withExistingDiskStore]) {
    try {
      access(waiting, folder(), () => undefined);
      assert.unreachable();
    } catch (error) {
      assert.is((error as CniError).code, 11);
      assert.match(
        (error as CniError).message,
        /data\/net" is locked: process \d+ \(".*"\) has held it for 30 s; try again/,
      );
    }
  }
  sys.close(fd);
});

test('a record of NULs belongs to nobody and is freed', () => {
  mkdirSync(folder(), { recursive: true });
  writeFileSync(join(folder(), '10.0.0.2'), '\0'.repeat(12));
  writeFileSync(join(folder(), '10.0.0.3'), 'abc\r\neth0\0\0');
  withDiskStore(sys, folder(), (store) => {
    assert.equal(store.find(holder('abc')).map(formatAddress), ['10.0.0.3']);
    assert.not(store.isReserved(address('10.0.0.2')));
  });
  // With a complete index, the record's own container meets it.
  writeFileSync(join(folder(), '10.0.0.3'), '\0'.repeat(9));
  withDiskStore(sys, folder(), (store) => assert.equal(store.find(holder('abc')), []));
  assert.not(readdirSync(folder()).includes('10.0.0.3'));
});

test('a record that was rewritten in place is found as it is now, and its line leaves the index', () => {
  const written: [string, string][] = [
    ['abc', 'eth0'],
    ['abc\r\neth1', 'eth1'],
  ];
  for (const [text, ifname] of written) {
    withDiskStore(sys, folder(), (store) => store.reserve(address('10.0.0.2'), holder('abc')));
    withDiskStore(sys, folder(), (store) => assert.is(store.list().length, 1));
    writeFileSync(join(folder(), '10.0.0.2'), text);
    withDiskStore(sys, folder(), (store) => {
      assert.equal(store.find(holder('abc', ifname)).map(formatAddress), ['10.0.0.2'], text);
      store.release(address('10.0.0.2'), holder('abc', ifname));
    });
    assert.not(readdirSync(folder()).includes('10.0.0.2'));
    const index = join(base, 'data', '.weft', 'net');
    for (const name of readdirSync(index)) assert.is(readFileSync(join(index, name), 'utf8'), '', name);
  }
});

test('a record of any length that an id may have is found', () => {
  for (const length of [4089, 4090, 4091, 5000, 131_000]) {
    const id = 'x'.repeat(length);
    for (const isIndexed of [false, true]) {
      withDiskStore(sys, folder(), (store) => store.reserve(address('10.0.0.2'), holder(id)));
      if (isIndexed) withDiskStore(sys, folder(), (store) => assert.is(store.list().length, 1));
      else utimesSync(folder(), 1, 1.5);
      withDiskStore(sys, folder(), (store) => {
        assert.equal(store.find(holder(id)).map(formatAddress), ['10.0.0.2'], `${length}`);
        store.release(address('10.0.0.2'), holder(id));
      });
    }
  }
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
