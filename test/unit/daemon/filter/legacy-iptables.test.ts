import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { parseListing, planLegacy } from '../../../../daemon/filter/legacy-iptables.ts';
import { samplePackets } from '../../../../daemon/filter/packet-walk.ts';
import { parsePrefix } from '../../../../net/prefix.ts';

const test = suite('daemon/filter/legacy-iptables');

const cluster = parsePrefix('10.5.0.0/16')!;
const roads = { peers: ['flannel.1'], external: 'eth0', containers: ['cni0'] };
const settings = { accepted: [cluster], packets: samplePackets(cluster, parsePrefix('10.5.1.0/24')!, roads) };
const names = { chain: 'WEFT-FORWARD', comment: 'weft forward' };
const own = `-N WEFT-FORWARD
-A WEFT-FORWARD -s 10.5.0.0/16 -j ACCEPT
-A WEFT-FORWARD -d 10.5.0.0/16 -j ACCEPT
`;
const plan = (listing: string) => planLegacy(parseListing(listing), 4, settings, names);
const fill = `:WEFT-FORWARD - [0:0]
-A WEFT-FORWARD -s 10.5.0.0/16 -j ACCEPT
-A WEFT-FORWARD -d 10.5.0.0/16 -j ACCEPT
`;

test('rules at the end of an empty chain, then none', () => {
  assert.equal(plan('-P INPUT ACCEPT\n-P FORWARD DROP\n-P OUTPUT ACCEPT\n'), {
    script: `*filter\n${fill}-I FORWARD 1 -j WEFT-FORWARD\nCOMMIT\n`,
    because: 'its policy is drop',
  });
  assert.is(plan(`-P FORWARD DROP\n${own}-A FORWARD -j WEFT-FORWARD\n`), undefined);
  assert.is(plan('-P INPUT ACCEPT\n'), undefined);
});

test('behind what is about particular packets, before what is about all', () => {
  const others = `-P FORWARD ACCEPT
-N DOCKER-USER
-A DOCKER-USER -p tcp -m tcp --dport 25 -m comment --comment "no \\"mail\\" -j DROP" -j DROP
-A DOCKER-USER -j RETURN
-A FORWARD -j DOCKER-USER
-A FORWARD -m conntrack --ctstate INVALID -j DROP
-A FORWARD ! -i eth0 -s 10.5.7.7/32 -j DROP
-A FORWARD -j REJECT --reject-with icmp-port-unreachable
`;
  assert.match(plan(others)!.script, /-I FORWARD 4 -j WEFT-FORWARD/);
  const { script, because } = plan(`${others}${own}-A FORWARD -j WEFT-FORWARD\n`)!;
  assert.is(script, '*filter\n-D FORWARD -j WEFT-FORWARD\n-I FORWARD 4 -j WEFT-FORWARD\nCOMMIT\n');
  assert.is(because, "rule 4 of it drops the cluster's packets");
});

test('what was changed is written anew, what is there twice once', () => {
  const twice = `-P FORWARD DROP\n${own}-A FORWARD -j WEFT-FORWARD\n-A FORWARD -m comment --comment "x y" -j WEFT-FORWARD\n`;
  assert.equal(plan(twice)!.script.split('\n').slice(1, -2), [
    '-D FORWARD -j WEFT-FORWARD',
    '-D FORWARD -m comment --comment "x y" -j WEFT-FORWARD',
    '-I FORWARD 1 -j WEFT-FORWARD',
  ]);
  const drops = `-P FORWARD DROP\n-N WEFT-FORWARD\n-A FORWARD -j WEFT-FORWARD\n-A WEFT-FORWARD -j DROP\n`;
  assert.equal(plan(drops), { script: `*filter\n${fill}COMMIT\n`, because: 'they were changed' });
});

test.run();
