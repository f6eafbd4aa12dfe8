import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { CniRequest, JsonObject } from '../../../cni/spec/request.ts';
import {
  addAddresses,
  checkAddresses,
  checkAvailable,
  collectAddresses,
  releaseAddresses,
  removeAddresses,
} from '../../../ipam/attachments.ts';
import { sys } from '../../../linux/sys-bun.ts';
import { formatAddress } from '../../../net/address.ts';
import { accessTo, createMemoryStore } from './memory-store.ts';

const test = suite('ipam/attachments');

const configuration: JsonObject = { ipam: { type: 'weft-ipam', ranges: [[{ subnet: '10.1.1.0/29' }]] } };
const requestOf = (containerId: string): CniRequest => ({
  command: 'ADD',
  containerId,
  ifname: 'eth0',
  netns: '/x',
  args: '',
  path: [],
  netnsOverride: false,
  all: [],
  network: 'pool',
  cniVersion: '1.1.0',
  configuration,
  stdin: new Uint8Array(),
});
const noNode = (): never => {
  throw new Error('the ranges are given');
};

test('every verb works on any store: here one in memory', () => {
  const store = createMemoryStore();
  const access = accessTo(store);
  const add = (id: string) => addAddresses(sys, requestOf(id), noNode, access).result.ips[0]!.address.address;
  const first = add('a');
  assert.is(formatAddress(first), '10.1.1.2');
  assert.is(formatAddress(add('b')), '10.1.1.3');
  checkAddresses(sys, requestOf('a'), access);
  releaseAddresses(sys, requestOf('a'), [first], access);
  assert.throws(() => checkAddresses(sys, requestOf('a'), access), /holds no address/);
  for (const id of ['c', 'd', 'e']) add(id);
  checkAvailable(sys, requestOf('f'), noNode, access);
  assert.is(store.held.size, 4, 'asking whether there is one takes none');
  add('f');
  assert.throws(() => checkAvailable(sys, requestOf('g'), noNode, access), /all are taken/);
  removeAddresses(sys, requestOf('b'), access);
  const { released, errors } = collectAddresses(sys, requestOf(''), [{ containerId: 'c', ifname: 'eth0' }], access);
  assert.is(released.length, 3);
  assert.equal(errors, []);
  assert.equal([...store.held.values()], ['c/eth0']);
});

test.run();
