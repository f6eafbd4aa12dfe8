/** This host's attachments, by the links of this machine's kernel. As root. @guest */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { openAttachments } from '../../daemon/host/attachments.ts';
import { changeLink, createVeth, deleteLink } from '../../linux/netlink/link.ts';
import { inNamespace, openCurrentNamespace } from '../../linux/netns.ts';
import { sys } from '../../linux/sys-bun.ts';
import { hostVethAlias, hostVethName } from '../../reservations/host-end.ts';
import { Scratch } from '../lab/scratch.ts';
import { fixture } from '../support/fixture.ts';
import { address, mac, NetlinkPair } from './netlink-pair.ts';

const test = suite('attachments');
const hosts = fixture(
  test,
  () => ({ pair: new NetlinkPair('attachments'), scratch: new Scratch('attachments-files') }),
  ({ pair, scratch }) => {
    pair.remove();
    scratch.remove();
  },
);

/** A count that can be waited for. */
class Changes {
  #seen = 0;
  #wake = (): void => {};

  add(): void {
    this.#seen++;
    this.#wake();
  }

  /** Waits for a change after `seen`. @returns the number of changes so far */
  async after(seen: number): Promise<number> {
    while (this.#seen <= seen) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.#seen;
  }
}

test('a host end is listed with its reservation, and its changes are heard of', async () => {
  const { pair, scratch } = hosts();
  const here = openCurrentNamespace(sys);
  const onHost = <T>(body: () => T): T => inNamespace(sys, { from: here, to: pair.hostFd }, body);
  const id = { network: 'weft', containerId: 'c1', ifname: 'eth0' };
  const name = hostVethName(id);
  mkdirSync(join(scratch.folder, 'weft'));
  writeFileSync(join(scratch.folder, 'weft/10.1.1.2'), 'c1\r\neth0');
  const attachments = openAttachments(sys, scratch.folder);
  const changes = new Changes();
  const watch = onHost(() => attachments.watch(() => changes.add()));
  try {
    // The first call says that events are heard from now on.
    let seen = await changes.after(0);
    assert.is(
      onHost(() => attachments.count()),
      0,
    );
    assert.equal(
      onHost(() => attachments.list()),
      [{ ...id, addresses: [address('10.1.1.2')], host: 'missing' }],
    );
    const peer = { name: 'eth0', mac: mac(2), namespace: pair.podFd };
    pair.host.execute([
      createVeth({ name, mac: mac(1), up: true, peer }),
      changeLink({ name }, { alias: hostVethAlias(id) }),
    ]);
    seen = await changes.after(seen);
    assert.is(
      onHost(() => attachments.count()),
      1,
    );
    const [attachment] = onHost(() => attachments.list());
    assert.ok(attachment && typeof attachment.host === 'object');
    const { index, ...end } = attachment.host;
    assert.ok(index > 0);
    assert.equal(end, { name, mac: mac(1), up: true, alias: 'weft weft c1 eth0' });
    pair.host.execute([deleteLink({ name })]);
    while (onHost(() => attachments.count()) !== 0) seen = await changes.after(seen);
  } finally {
    watch.close();
    sys.close(here);
  }
});

test.run();
