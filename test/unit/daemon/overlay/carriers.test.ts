import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { HostState } from '../../../../daemon/host/host-state.ts';
import { doubleCarriers } from '../../../../daemon/overlay/carriers.ts';
import { parsePrefix } from '../../../../net/prefix.ts';

const test = suite('daemon/overlay/carriers');

const subnets = ['10.5.7.0/24', 'fd00:5:0:7::/64'].map((text) => parsePrefix(text)!);

/** `name address` in lines. */
function host(...lines: string[]): HostState {
  const pairs = lines.map((line) => line.split(' ') as [string, string]);
  const names = [...new Set(pairs.map(([name]) => name))];
  return {
    links: names.map((name, i) => ({ index: i + 1, name })),
    addresses: pairs.map(([name, text]) => ({ index: names.indexOf(name) + 1, prefix: parsePrefix(text)! })),
    routes: [],
  } as unknown as HostState;
}

test('one bridge with the subnet is no problem, whichever it is', () => {
  for (const name of ['cni0', 'docker0']) {
    const one = host(`${name} 10.5.7.1/24`, `${name} fd00:5:0:7::1/64`, 'flannel.1 10.5.7.0/32', 'eth0 10.0.0.9/8');
    assert.is(doubleCarriers(one, subnets).size, 0);
  }
});

test('a second interface with the subnet or a part of it is, for each family', () => {
  const two = host('cni0 10.5.7.1/24', 'docker0 10.5.7.129/25', 'cni0 fd00:5:0:7::1/64', 'br-1 fd00:5:0:7::1/64');
  assert.equal([...doubleCarriers(two, subnets).keys()], ['10.5.7.0/24', 'fd00:5:0:7::/64']);
  const [text] = [...doubleCarriers(two, subnets).values()];
  assert.match(text!, /^This node's subnet 10\.5\.7\.0\/24 is on the interfaces "cni0" and "docker0": packets reach/);
});

test('a single address, the cluster’s whole network and another subnet are not', () => {
  const fine = host('cni0 10.5.7.1/24', 'lo 10.5.7.9/32', 'vpn 10.5.0.1/16', 'docker0 10.5.8.1/24');
  assert.is(doubleCarriers(fine, subnets).size, 0);
});

test.run();
