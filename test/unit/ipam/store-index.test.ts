import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { withDiskStore } from '../../../ipam/store.ts';
import { errno } from '../../../linux/errors.ts';
import type { Sys } from '../../../linux/sys.ts';
import { sys } from '../../../linux/sys-bun.ts';
import { formatAddress, parseAddress } from '../../../net/address.ts';
import { failAt, Killed, killAt, wrapSys } from '../../support/faulty-sys.ts';

const test = suite('ipam/store-index');

let base = '';
test.before.each(() => {
  base = mkdtempSync(join(tmpdir(), 'weft-index-'));
});
test.after.each(() => rmSync(base, { recursive: true, force: true }));

const folder = () => join(base, 'net');
const index = () => join(base, '.weft/net');
const holder = (containerId: string, ifname = 'eth0') => ({ containerId, ifname });
const address = (host: number) => parseAddress(`10.0.${host >> 8}.${host & 255}`)!;

const reserve = (containerId: string, host: number, through: Sys = sys): boolean =>
  withDiskStore(through, folder(), (store) => {
    assert.equal(store.find(holder(containerId)), []);
    return store.reserve(address(host), holder(containerId));
  });
const find = (containerId: string, ifname = 'eth0', through: Sys = sys): string[] =>
  withDiskStore(through, folder(), (store) => store.find(holder(containerId, ifname)).map(formatAddress));
const release = (containerId: string, through: Sys = sys): void =>
  withDiskStore(through, folder(), (store) => {
    for (const held of store.find(holder(containerId))) store.release(held, holder(containerId));
  });

/** The system calls of `body`. */
function callsOf(body: (through: Sys) => void): string[] {
  const names: string[] = [];
  body(
    wrapSys(sys, ({ name }) => {
      names.push(name);
      return undefined;
    }),
  );
  return names;
}
const scans = (body: (through: Sys) => void): boolean => callsOf(body).includes('getdents');

/** As host-local does it, or a person. */
const writeByHand = (name: string, content: string): void => writeFileSync(join(folder(), name), content);

test('with an index, no folder is listed, and the number of system calls does not depend on the number of reservations', () => {
  mkdirSync(folder());
  for (let host = 2; host < 1500; host++) writeByHand(formatAddress(address(host)), `c${host}\r\neth0`);
  assert.ok(
    scans((through) => reserve('few', 1600, through)),
    'the first time',
  );
  const add = callsOf((through) => reserve('x', 1601, through));
  const del = callsOf((through) => release('x', through));
  const none = callsOf((through) => release('x', through));
  assert.not([...add, ...del, ...none].includes('getdents'));
  assert.ok(add.length + del.length < 50, `${add.length} and ${del.length} calls`);
  assert.equal(find('c77'), ['10.0.0.77']);
  release('c77');
  assert.equal(find('c77'), []);
  assert.ok(reserve('y', 77));
});

test('a record in a form of its own is not in the index, and is found all the same', () => {
  reserve('abc', 2);
  writeByHand('10.0.0.3', 'some\tthing else\r\neth0');
  writeByHand('10.0.0.4', 'abc');
  assert.equal(find('abc'), ['10.0.0.2']);
  assert.equal(find('abc', 'eth1'), ['10.0.0.4'], 'a record of an old host-local');
  assert.not(scans((through) => assert.equal(find('abc', 'eth1', through), ['10.0.0.4'])));
  withDiskStore(sys, folder(), (store) => store.release(address(4), holder('abc', 'eth1')));
  assert.equal(find('abc', 'eth1'), []);
});

test('a reservation that another program made is found, however quickly it was made', () => {
  for (let host = 2; host < 60; host += 2) {
    reserve(`a${host}`, host);
    writeByHand(`10.0.0.${host + 1}`, `b${host}\r\neth0`);
    assert.equal(find(`b${host}`), [`10.0.0.${host + 1}`]);
    assert.not(scans((through) => find(`b${host}`, 'eth0', through)));
  }
});

test('a reservation that another program removed or gave away is no longer found', () => {
  reserve('a', 2);
  reserve('b', 3);
  unlinkSync(join(folder(), '10.0.0.2'));
  writeByHand('10.0.0.3', 'c\r\neth0');
  assert.equal([find('a'), find('b'), find('c')], [[], [], ['10.0.0.3']]);
  assert.not(reserve('d', 3), 'never twice');
  assert.ok(reserve('d', 2));
});

test('a file that another program writes without the lock is not overwritten', () => {
  withDiskStore(sys, folder(), (store) => {
    assert.not(store.isReserved(address(2)));
    writeByHand('10.0.0.2', 'other\r\neth0');
    assert.not(store.reserve(address(2), holder('a')));
  });
  assert.equal([find('other'), find('a')], [['10.0.0.2'], []]);
  assert.equal(readdirSync(folder()).sort(), ['10.0.0.2', 'lock']);
});

test('the temporary file of a killed process is not a second name of its reservation', () => {
  let linked = 0;
  const dying = wrapSys(sys, ({ name, number }) => {
    if (name === 'link') linked = number;
    if (linked > 0 && number > linked) throw new Killed('killed behind the link');
    return undefined;
  });
  assert.throws(() => reserve('a', 2, dying));
  assert.ok(readdirSync(folder()).includes('.weft-reservation'));
  assert.ok(reserve('b', 3));
  assert.equal([find('a'), find('b')], [['10.0.0.2'], ['10.0.0.3']]);
  writeByHand('.weft-reservation', '');
  release('a');
  assert.equal(readdirSync(folder()).sort(), ['10.0.0.3', 'lock']);
});

test('a missing index, or one of another folder, is rebuilt', () => {
  reserve('a', 2);
  rmSync(join(base, '.weft'), { recursive: true });
  assert.equal(find('a'), ['10.0.0.2']);
  assert.not(scans((through) => find('a', 'eth0', through)));
  renameSync(folder(), join(base, 'old'));
  reserve('b', 2);
  assert.equal([find('a'), find('b')], [[], ['10.0.0.2']]);
  writeFileSync(join(index(), '00'), 'garbage');
  rmSync(folder(), { recursive: true });
  assert.equal(find('b'), []);
});

test('a call succeeds although the index cannot be written', () => {
  writeFileSync(join(base, '.weft'), '');
  reserve('a', 2);
  reserve('b', 3);
  assert.equal([find('a'), find('b')], [['10.0.0.2'], ['10.0.0.3']]);
  release('a');
  assert.equal([find('a'), find('b')], [[], ['10.0.0.3']]);
});

/** Each step of the body fails, or is the last one of its process; after it the store is asked by index and by files. */
for (const [how, faulty] of [
  ['refused', (n: number) => failAt(sys, n, errno.EIO)],
  ['killed', (n: number) => killAt(sys, n)],
] as const) {
  test(`${how} at any one system call, no reservation is lost and no absent one is found`, () => {
    for (const [what, body] of [
      ['reserve', (through: Sys) => reserve('x', 9, through)],
      ['release', (through: Sys) => release('b', through)],
    ] as const) {
      for (let n = 1; ; n++) {
        rmSync(folder(), { recursive: true, force: true });
        if (n % 2 === 0) rmSync(join(base, '.weft'), { recursive: true, force: true });
        reserve('a', 2);
        reserve('b', 3);
        let made = 0;
        try {
          const through = faulty(n);
          body(
            wrapSys(through, () => {
              made++;
              return undefined;
            }),
          );
        } catch {
          // Whether it fails is the store's affair.
        }
        // Asked first: `list` would mend an index that is wrong.
        const found = ['a', 'b', 'x'].flatMap((id) => find(id).map((text) => `${id} ${text}`));
        const listed = withDiskStore(sys, folder(), (store) =>
          store.list().map((each) => `${each.holder.containerId} ${formatAddress(each.address)}`),
        );
        assert.equal(found.sort(), listed.sort(), `${what}, call ${n}`);
        if (made < n) break;
      }
    }
  });
}

test('an index that has become too small is rebuilt with more files', () => {
  const name = (host: number) => `${'c'.repeat(240)}${host}`;
  const files = () => readdirSync(index()).filter((file) => /^[0-9a-f]{2}$/.test(file)).length;
  let largest = 0;
  for (let host = 2; host < 1500; host++) {
    assert.ok(reserve(name(host), host));
    if (host === 600) largest = files();
  }
  assert.ok(largest <= 16, `${largest} files`);
  assert.ok(files() > 128, `${files()} files`);
  for (const host of [2, 700, 1499]) assert.equal(find(name(host)), [formatAddress(address(host))]);
  release(name(700));
  assert.equal(find(name(700)), []);
  assert.not(scans((through) => reserve(name(1700), 1700, through)));
});

test.run();
