import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { unitIn } from '../../../../cli/migrate/find-flanneld.ts';
import { formatRecord } from '../../../../cli/migrate/records.ts';
import { parseSubnetEnv } from '../../../../net/node-file.ts';

const test = suite('cli/migrate/records');

test("a record is what flannel's plugin gives to the bridge plugin", () => {
  const node = parseSubnetEnv(
    'FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.17.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n',
  );
  const delegate = { hairpinMode: true, isDefaultGateway: true };
  // As the plugin of the reference plugins 0.9.1 wrote it.
  assert.is(
    formatRecord({ cniVersion: '0.3.1', name: 'cbr0', node, delegate }),
    '{"cniVersion":"0.3.1","hairpinMode":true,"ipMasq":false,"ipam":{"ranges":[[{"subnet":"10.1.17.0/24"}]],"routes":[{"dst":"10.1.0.0/16"}],"type":"host-local"},"isDefaultGateway":true,"isGateway":true,"mtu":1472,"name":"cbr0","type":"bridge"}',
  );
});

test('the service in whose control group a process is', () => {
  for (const [cgroup, unit] of [
    ['0::/system.slice/flanneld.service\n', 'flanneld.service'],
    ['1:name=systemd:/system.slice/flannel@one.service\n0::/\n', 'flannel@one.service'],
    ['0::/kubepods.slice/kubepods-besteffort.slice/cri-containerd-1234.scope\n', undefined],
    ['0::/a/$(rm).service\n', undefined],
    ['', undefined],
  ] as const) {
    assert.is(unitIn(cgroup), unit, cgroup);
  }
});

test.run();
