/**
 * Network namespaces of this machine's kernel, and their sysctls. As root.
 * @guest
 */

import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { openNetlink } from '../../linux/netlink/connection.ts';
import { inNamespace, openCurrentNamespace, sameNamespace } from '../../linux/netns.ts';
import { sys } from '../../linux/sys-bun.ts';
import { ensureSysctl, readSysctl } from '../../linux/sysctl.ts';
import { fixture } from '../support/fixture.ts';
import { NetlinkPair } from './netlink-pair.ts';

const test = suite('namespaces');
const hosts = fixture(
  test,
  () => new NetlinkPair('netns'),
  (made) => made.remove(),
);

test("code runs in another namespace, with that namespace's sysctls", () => {
  const { podFd, hostFd } = hosts();
  const from = openCurrentNamespace(sys);
  const name = ['net', 'ipv4', 'conf', 'all', 'arp_notify'];
  const before = readSysctl(sys, name);
  const inPod = <T>(body: () => T): T => inNamespace(sys, { from, to: podFd }, body);
  inPod(() => ensureSysctl(sys, name, '0'));
  assert.is(
    inPod(() => ensureSysctl(sys, name, '1')),
    true,
  );
  assert.is(
    inPod(() => ensureSysctl(sys, name, '1')),
    false,
  );
  assert.is(
    inPod(() => readSysctl(sys, name)),
    '1',
  );
  assert.is(readSysctl(sys, name), before);
  const inside = inPod(() => openCurrentNamespace(sys));
  assert.ok(sameNamespace(sys, inside, podFd));
  assert.not(sameNamespace(sys, inside, hostFd));
  const after = openCurrentNamespace(sys);
  assert.ok(sameNamespace(sys, from, after));
  const file = sys.open('/etc/hostname', 0, 0);
  assert.throws(
    () => openNetlink(sys, { namespace: file }),
    /^Cannot enter network namespace "\/etc\/hostname": EINVAL$/,
  );
  for (const fd of [from, inside, after, file]) sys.close(fd);
});

test.run();
