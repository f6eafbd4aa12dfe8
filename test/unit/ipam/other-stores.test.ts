import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { allocate } from '../../../ipam/allocator.ts';
import { OtherStores } from '../../../ipam/other-stores.ts';
import { parseRange } from '../../../ipam/ranges.ts';
import type { Sys } from '../../../linux/sys.ts';
import { type Address, formatAddress, parseAddress } from '../../../net/address.ts';
import { createMemoryStore } from './memory-store.ts';

const test = suite('ipam/other-stores');

/** Other networks' files, and how often their folders and files were asked for. */
function stores(networks: Readonly<Record<string, readonly string[]>>) {
  const asked = { folders: 0, files: 0 };
  const sys = {
    getdents: () => {
      asked.folders++;
      return ['weft', '.weft', ...Object.keys(networks)];
    },
    stat: (path: string) => {
      asked.files++;
      const [network, name] = path.split('/').slice(-2) as [string, string];
      return networks[network]?.includes(name) ? { dev: 1, ino: 1, mode: 0, size: 0, mtimeMs: 0 } : -2;
    },
  } as unknown as Sys;
  return { sys, asked };
}

const set = [parseRange({ subnet: '10.0.0.0/29' }, 'x')];
const holder = { containerId: 'c', ifname: 'eth0' };
const always = (): boolean => true;

test('a folder or a file that cannot be looked at is no free address, and our own is given back', () => {
  const store = createMemoryStore();
  const { sys } = stores({ cbr0: [] });
  for (const broken of [
    { ...sys, stat: () => -5 },
    { ...sys, getdents: () => -5 },
  ]) {
    const others = new OtherStores(broken as Sys, '/d/weft', always);
    assert.throws(() => allocate(others.guard(store), [set], [], holder), /EIO/);
  }
  assert.equal(store.list(), []);
});

test('a reservation that another network made meanwhile is seen after our own, which is given back', () => {
  const networks: Record<string, string[]> = { cbr0: [] };
  const { sys } = stores(networks);
  const store = createMemoryStore();
  const racing = {
    ...store,
    reserve: (address: Address, by: typeof holder) => {
      if (networks['cbr0']!.length === 0) networks['cbr0']!.push(formatAddress(address));
      return store.reserve(address, by);
    },
  };
  const [given] = allocate(new OtherStores(sys, '/d/weft', always).guard(racing), [set], [], holder);
  assert.is(formatAddress(given!.address.address), '10.0.0.3');
  assert.not(store.isReserved(parseAddress('10.0.0.2')!));
});

test('addresses that are not the node’s may be those of another network, too', () => {
  const { sys } = stores({ other: ['10.0.0.2'] });
  const guarded = new OtherStores(sys, '/d/weft', () => false).guard(createMemoryStore());
  const [given] = allocate(guarded, [set], [], holder);
  assert.is(formatAddress(given!.address.address), '10.0.0.2');
});

test.run();
