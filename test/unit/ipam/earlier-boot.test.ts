/** Reservations that were made before the machine was started again, and those that only look like it. */

import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { withDiskStore } from '../../../ipam/store.ts';
import { errno } from '../../../linux/errors.ts';
import type { Sys } from '../../../linux/sys.ts';
import { sys } from '../../../linux/sys-bun.ts';
import { formatAddress, parseAddress } from '../../../net/address.ts';
import { failAt, killAt, wrapSys } from '../../support/faulty-sys.ts';

const test = suite('ipam/earlier-boot');

let base = '';
test.before.each(() => {
  base = mkdtempSync(join(tmpdir(), 'weft-boot-'));
});
test.after.each(() => rmSync(base, { recursive: true, force: true }));

const folder = () => join(base, 'net');
const index = () => join(base, '.weft/net');
const holder = (containerId: string, ifname = 'eth0') => ({ containerId, ifname });
const machineId = '0123456789abcdef0123456789abcdef';

interface Machine {
  readonly boot: number;
  /** How long ago it was started. */
  readonly uptimeSeconds?: number;
  readonly machineId?: string | undefined;
}

/** The files that replace /proc and /etc from now on. */
function machine({ boot, uptimeSeconds = 0, machineId: id = machineId }: Machine, under: Sys = sys): Sys {
  const files: Readonly<Record<string, string>> = {
    '/proc/sys/kernel/random/boot_id': boot > 0 ? `00000000-0000-4000-8000-00000000000${boot}\n` : '',
    '/etc/machine-id': `${id}\n`,
    '/proc/uptime': `${uptimeSeconds.toFixed(2)} 0.00\n`,
  };
  for (const [path, text] of Object.entries(files)) writeFileSync(join(base, path.replaceAll('/', '_')), text);
  return {
    ...under,
    open: (path, flags, mode) => under.open(path in files ? join(base, path.replaceAll('/', '_')) : path, flags, mode),
  };
}

const reserve = (through: Sys, containerId: string, host: number): boolean =>
  withDiskStore(through, folder(), (store) => {
    store.find(holder(containerId));
    return store.reserve(parseAddress(`10.0.0.${host}`)!, holder(containerId));
  });
const held = (through: Sys): string[] =>
  withDiskStore(through, folder(), (store) =>
    store
      .list()
      .map(({ address, holder: { containerId } }) => `${formatAddress(address)} ${containerId}`)
      .sort(),
  );
const byHostLocal = (host: number, id: string): void => {
  mkdirSync(folder(), { recursive: true });
  writeFileSync(join(folder(), `10.0.0.${host}`), `${id}\r\neth0`);
};
const names = (): string[] => readdirSync(folder()).sort();

test('reservations of an earlier boot are freed once, by the first call', () => {
  for (const call of [
    (through: Sys) => reserve(through, 'new', 9),
    (through: Sys) => withDiskStore(through, folder(), (store) => store.find(holder('a'))),
    (through: Sys) => withDiskStore(through, folder(), () => undefined),
  ]) {
    rmSync(folder(), { recursive: true, force: true });
    reserve(machine({ boot: 1 }), 'a', 2);
    reserve(machine({ boot: 1 }), 'b', 3);
    withDiskStore(sys, folder(), (store) => store.setLastReserved(0, parseAddress('10.0.0.3')!));
    reserve(machine({ boot: 1 }), 'c', 4);
    const second = machine({ boot: 2 });
    call(second);
    assert.equal(
      names().filter((name) => name !== '10.0.0.9'),
      ['last_reserved_ip.0', 'lock'],
    );
    reserve(second, 'd', 5);
    assert.ok(held(second).includes('10.0.0.5 d'));
    assert.equal(readdirSync(index()).filter((name) => name.startsWith('complete-')).length, 1);
  }
});

test('within one boot nothing is freed, however often the index is rebuilt', () => {
  const through = machine({ boot: 1 });
  reserve(through, 'a', 2);
  byHostLocal(3, 'b');
  reserve(through, 'c', 4);
  rmSync(join(base, '.weft'), { recursive: true });
  assert.equal(held(through), ['10.0.0.2 a', '10.0.0.3 b', '10.0.0.4 c']);
});

test('a store that Weft first sees in this boot is kept', () => {
  byHostLocal(2, 'a');
  utimesSync(join(folder(), '10.0.0.2'), 1, 1);
  const second = machine({ boot: 2 });
  reserve(second, 'b', 3);
  assert.equal(held(second), ['10.0.0.2 a', '10.0.0.3 b']);
});

test('reservations that host-local made in this boot are kept', () => {
  reserve(machine({ boot: 1 }), 'a', 2);
  reserve(machine({ boot: 1 }), 'same', 3);
  // The container is started again, and gets its address again.
  unlinkSync(join(folder(), '10.0.0.3'));
  const second = machine({ boot: 2, uptimeSeconds: 0.5 });
  utimesSync(join(folder(), '10.0.0.2'), 1, 1);
  byHostLocal(3, 'same');
  byHostLocal(4, 'living');
  // Its clock was wrong then.
  utimesSync(join(folder(), '10.0.0.4'), 1, 1);
  assert.equal(held(second), ['10.0.0.3 same', '10.0.0.4 living']);
  assert.equal(held(machine({ boot: 2 })), ['10.0.0.3 same', '10.0.0.4 living']);
});

test('a reservation whose maker was killed is freed after a boot as well', () => {
  for (let n = 1; ; n++) {
    rmSync(folder(), { recursive: true, force: true });
    const first = machine({ boot: 1 });
    reserve(first, 'a', 2);
    let made = 0;
    try {
      reserve(
        wrapSys(killAt(first, n), () => void made++ as undefined),
        'x',
        3,
      );
    } catch {
      // Killed.
    }
    const second = machine({ boot: 2 });
    assert.equal(held(second), [], `killed before call ${n}`);
    assert.equal(names(), ['lock'], `killed before call ${n}`);
    if (made < n) break;
  }
});

test('reservations of another machine are kept, and so are those of a machine or a boot without an id', () => {
  const other = 'f'.repeat(32);
  for (const [first, second] of [
    [{ boot: 1 }, { boot: 2, machineId: other }],
    [
      { boot: 1, machineId: '' },
      { boot: 2, machineId: '' },
    ],
    [{ boot: 0 }, { boot: 2 }],
    [{ boot: 1 }, { boot: 0 }],
  ] as const) {
    rmSync(folder(), { recursive: true, force: true });
    rmSync(join(base, '.weft'), { recursive: true, force: true });
    reserve(machine(first), 'a', 2);
    reserve(machine(first), 'b', 3);
    reserve(machine(second), 'c', 4);
    assert.equal(held(machine(second)), ['10.0.0.2 a', '10.0.0.3 b', '10.0.0.4 c'], JSON.stringify([first, second]));
  }
});

/** Two reservations of an earlier boot, and one of this one's, of host-local's making. */
function prepare(): void {
  rmSync(folder(), { recursive: true, force: true });
  rmSync(join(base, '.weft'), { recursive: true, force: true });
  reserve(machine({ boot: 1 }), 'a', 2);
  reserve(machine({ boot: 1 }), 'b', 3);
}

for (const [how, faulty] of [
  ['refused', (through: Sys, n: number) => failAt(through, n, errno.EIO)],
  ['killed', killAt],
] as const) {
  test(`${how} at any one system call, living reservations are kept, and a later call frees the rest`, () => {
    for (let n = 1; ; n++) {
      prepare();
      const second = machine({ boot: 2 });
      let made = 0;
      try {
        reserve(
          wrapSys(faulty(second, n), () => void made++ as undefined),
          'x',
          9,
        );
      } catch {
        // Whether it fails is the store's affair.
      }
      const reserved = names().includes('10.0.0.9') ? ['10.0.0.9 x'] : [];
      byHostLocal(4, 'living');
      const now = held(second).filter((line) => !/ [ab]$/.test(line));
      assert.equal(now, ['10.0.0.4 living', ...reserved], `call ${n}`);
      // A call that failed to learn of the boot, or to read all, may leave the dead for GC; one that was killed never.
      if (how === 'killed') assert.equal(held(second), now, `call ${n}`);
      if (made < n) break;
    }
  });
}

test('if the boot cannot be recorded, nothing is freed and the next call tries again', () => {
  prepare();
  const second = machine({ boot: 2 });
  const full = {
    ...second,
    open: (path: string, flags: number, mode: number): number =>
      path.startsWith(`${index()}/earlier-boot`) && flags !== 0 ? -errno.ENOSPC : second.open(path, flags, mode),
  };
  assert.equal(held(full), ['10.0.0.2 a', '10.0.0.3 b']);
  assert.equal(held(second), []);
});

test('only the recorded files are freed: files that replaced them are kept', () => {
  prepare();
  const second = machine({ boot: 2 });
  let listed = 0;
  const dying = wrapSys(second, ({ name, number }) => {
    if (name === 'rename') listed = number;
    if (listed > 0 && number > listed) throw new Error('killed');
    return undefined;
  });
  assert.throws(() => held(dying));
  assert.match(readFileSync(join(index(), 'earlier-boot'), 'utf8'), /^10\.0\.0\.[23] \d+ [\d.]+\n10\.0\.0\.[23] /);
  unlinkSync(join(folder(), '10.0.0.3'));
  byHostLocal(3, 'b');
  assert.equal(held(second), ['10.0.0.3 b']);
  assert.equal(held(machine({ boot: 2 })), ['10.0.0.3 b']);
});

test.run();
