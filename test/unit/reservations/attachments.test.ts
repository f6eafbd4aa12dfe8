import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { countAddresses } from '../../../daemon/answers/addresses.ts';
import { errno } from '../../../linux/errors.ts';
import { sys } from '../../../linux/sys-bun.ts';
import { formatAddress, parseAddress } from '../../../net/address.ts';
import { parsePrefix } from '../../../net/prefix.ts';
import {
  type Attachment,
  type Attachments,
  type HostEnd,
  joinAttachments,
  openAttachmentReader,
} from '../../../reservations/attachments.ts';
import { hostVethAlias, hostVethName, parseHostVethAlias } from '../../../reservations/host-end.ts';
import { readReservations } from '../../../reservations/reader.ts';

const test = suite('reservations/attachments');
const address = (text: string) => parseAddress(text)!;
const hostEnd = (network: string, containerId: string, ifname = 'eth0'): HostEnd => ({
  index: 7,
  name: hostVethName({ network, containerId, ifname }),
  mac: undefined,
  up: true,
  alias: hostVethAlias({ network, containerId, ifname }),
});

test('addresses of one interface are one attachment, with its host end', () => {
  const holder = { containerId: 'c1', ifname: 'eth0' };
  const end = hostEnd('weft', 'c1');
  const attachments = joinAttachments(
    [
      { network: 'weft', address: address('10.1.1.2'), holder },
      { network: 'weft', address: address('fd00::2'), holder },
      { network: 'other', address: address('10.9.0.2'), holder },
    ],
    [end],
  );
  assert.equal(attachments, [
    { network: 'weft', ...holder, addresses: [address('10.1.1.2'), address('fd00::2')], host: end },
    { network: 'other', ...holder, addresses: [address('10.9.0.2')], host: 'missing' },
  ]);
});

test('an interface without a reservation is known by its alias, and others are left out', () => {
  const own = hostEnd('lan', 'c2', 'net1');
  const foreign = { ...hostEnd('weft', 'c3'), name: 'veth0', alias: 'docker' };
  assert.equal(joinAttachments([], [own, foreign]), [
    { network: 'lan', containerId: 'c2', ifname: 'net1', addresses: [], host: own },
  ]);
  assert.is(parseHostVethAlias('weftx'), undefined);
});

test('an alias that the kernel cut off still belongs to its reservation', () => {
  const containerId = 'x'.repeat(300);
  const end = hostEnd('weft', containerId);
  assert.ok(end.alias.length < 255);
  const holder = { containerId, ifname: 'eth0' };
  const attachments = joinAttachments([{ network: 'weft', address: address('10.1.1.2'), holder }], [end]);
  assert.equal(
    attachments.map(({ host }) => host),
    [end],
  );
});

test('where interfaces cannot be listed that is said', () => {
  const holder = { containerId: 'c1', ifname: 'eth0' };
  const [attachment] = joinAttachments([{ network: 'weft', address: address('10.1.1.2'), holder }], undefined);
  assert.is(attachment?.host, 'unknown');
});

test('files: reservations in order; locks, marks, empty files and folders that cannot be read are no reservations', () => {
  const folder = mkdtempSync(join(tmpdir(), 'weft-reservations-'));
  try {
    for (const name of ['b', 'a']) mkdirSync(join(folder, name));
    writeFileSync(join(folder, 'lock'), '');
    const write = (name: string, text: string) => writeFileSync(join(folder, name), text);
    write('a/10.1.1.10', 'c2\r\neth0');
    write('a/10.1.1.9', 'c1\neth1\n');
    write('a/fd00::5', 'old');
    write('a/10.1.1.11', '');
    write('a/last_reserved_ip.0', '10.1.1.10');
    write('a/.weft-reservation', 'c9\r\neth0');
    write('b/10.2.1.2', 'c1\r\neth0');
    assert.equal(
      readReservations(sys, folder).map(
        ({ network, address: at, holder }) => `${network} ${formatAddress(at)} ${holder.containerId} ${holder.ifname}`,
      ),
      ['a 10.1.1.9 c1 eth1', 'a 10.1.1.10 c2 eth0', 'a fd00::5 old ', 'b 10.2.1.2 c1 eth0'],
    );
    const deaf = { ...sys, socket: () => -errno.EPROTONOSUPPORT };
    const reader = openAttachmentReader(deaf, folder);
    assert.is(reader.count(), undefined);
    // An empty file still keeps its address from being given out.
    assert.is(reader.addresses().length, 5);
    assert.equal(
      reader.list().map(({ host }) => host),
      ['unknown', 'unknown', 'unknown', 'unknown'],
    );
    assert.equal(openAttachmentReader(deaf, join(folder, 'none')).list(), []);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});

/** Another source of attachments: a list in memory. */
function memoryAttachments(): Attachments & { add(attachment: Attachment): void } {
  const held: Attachment[] = [];
  const listeners = new Set<() => void>();
  return {
    list: () => [...held],
    count: () => held.filter(({ host }) => typeof host === 'object').length,
    addresses: () => held.flatMap(({ addresses }) => addresses),
    watch(onChange) {
      listeners.add(onChange);
      return { close: () => void listeners.delete(onChange) };
    },
    add(attachment) {
      held.push(attachment);
      for (const listener of listeners) listener();
    },
  };
}

test('a second implementation serves what counts addresses, and tells of changes', () => {
  const attachments = memoryAttachments();
  let changes = 0;
  const watch = attachments.watch(() => changes++);
  const attachment = { network: 'weft', containerId: 'c1', ifname: 'eth0', host: hostEnd('weft', 'c1') };
  attachments.add({ ...attachment, addresses: [address('10.1.1.2'), address('10.1.2.2')] });
  watch.close();
  attachments.add({ ...attachment, containerId: 'c2', addresses: [] });
  assert.is(changes, 1);
  assert.is(attachments.count(), 2);
  assert.equal(countAddresses(attachments.addresses(), [parsePrefix('10.1.1.0/24')!]), [
    { subnet: '10.1.1.0/24', used: 1, free: 252 },
  ]);
});

test.run();
