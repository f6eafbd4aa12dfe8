import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { parseNetworkConfig } from '../../../../cluster/network-config.ts';
import type { Lost } from '../../../../cluster/store.ts';
import { backends } from '../../../../daemon/backends/map.ts';
import { holderOf } from '../../../../daemon/membership/taken-subnet.ts';
import { address, peer, prefix } from '../overlay/cluster-of.ts';
import { FakeCluster, vxlanConfig } from './fake-cluster.ts';

const test = suite('daemon/membership/taken-subnet');

const config = parseNetworkConfig(vxlanConfig, backends);
const own = peer(1);
const unheld = { subnets: own.subnets, lost: undefined, isRefused: true, config, value: own };
const nextOwner = peer(7, { subnets: own.subnets });

test('the subnet is another’s if its lease says so, and the store has refused us another one', () => {
  assert.is(holderOf([peer(2), nextOwner], unheld), nextOwner);
  assert.is(holderOf([peer(2)], unheld), undefined);
  assert.is(holderOf([nextOwner], { ...unheld, isRefused: false }), undefined, 'the store has not answered');
  const lost: Lost = { state: 'lost', how: 'taken', holder: nextOwner };
  assert.is(holderOf([], { ...unheld, isRefused: false, lost }), nextOwner, 'it has said so when we renewed');
});

test('our own lease, and leases that peers refuse, do not count', () => {
  assert.is(holderOf([own], unheld), undefined);
  const { node: _, ...flannels } = own;
  assert.is(holderOf([flannels], unheld), undefined, 'of flannel on this host');
  const other = { ...flannels, publicAddresses: { 4: address('192.0.2.7') } };
  assert.is(holderOf([other], unheld), other);
  assert.is(holderOf([peer(7, { subnets: { 4: prefix('10.0.0.0/8') } })], unheld), undefined);
  const young = peer(7, { subnets: { 4: prefix('10.1.1.128/25') }, seniority: '9' });
  assert.is(holderOf([own, young], unheld), undefined, 'our older lease is there');
  assert.is(holderOf([young], unheld), young);
});

test('a node whose subnet has become another’s takes it back from the plugins while there is no other', async () => {
  const cluster = new FakeCluster();
  await cluster.membership.sync();
  const failing = async (): Promise<string> => {
    try {
      await cluster.membership.sync();
    } catch (error) {
      return (error as Error).message;
    }
    return '';
  };
  cluster.refusal = { state: 'none', why: 'No free IPv4 subnet' };
  cluster.leases = [peer(2)];
  assert.is(await failing(), 'No free IPv4 subnet');
  assert.is(cluster.withdrawn, 0, 'it is nobody else’s yet');
  assert.is(cluster.membership.view?.takenBy, undefined);
  cluster.leases = [peer(2), nextOwner];
  assert.is(await failing(), 'No free IPv4 subnet');
  assert.is(cluster.withdrawn, 1);
  assert.is(cluster.membership.view?.takenBy, nextOwner);
  assert.equal(cluster.problems.list(), [
    'This node\'s subnet 10.1.1.0/24 fd00:0:0:1::/64 is now that of "h7" at 192.0.2.7 2001:db8::7: other hosts do not reach the containers that have its addresses, and no container starts here before weftd has another subnet',
  ]);
  cluster.refusal = undefined;
  const view = await cluster.membership.sync();
  assert.is(view?.takenBy, undefined);
  assert.equal(cluster.problems.list(), []);
});

test('a subnet that is found to be taken is withdrawn before another is acquired', async () => {
  const cluster = new FakeCluster();
  await cluster.membership.sync();
  cluster.leases = [peer(2), peer(7, { ownerId: own.ownerId, subnets: own.subnets })];
  cluster.renew = { state: 'lost', how: 'taken', holder: cluster.leases[1]! };
  const acquired = cluster.own;
  cluster.own = (claim) => {
    assert.is(cluster.withdrawn, 1);
    assert.ok(cluster.membership.view?.takenBy, 'no comparison writes the files again meanwhile');
    return { ...acquired.call(cluster, claim), ...peer(3), expiresAtMs: undefined };
  };
  const view = await cluster.membership.sync();
  assert.is(view?.takenBy, undefined);
  assert.equal(view?.own.subnets, peer(3).subnets);
});

test.run();
