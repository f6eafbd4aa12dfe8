/**
 * How soon weftd puts back what somebody else has changed: two hosts, each damage so many times, from the return of the
 * command that did it to the state being as it was, seen by dumps of the kernel's own.
 */

import { dumpAddresses } from '../linux/netlink/address.ts';
import { type NetlinkConnection, openNetlink } from '../linux/netlink/connection.ts';
import { dumpLinks, iff } from '../linux/netlink/link.ts';
import { dumpFdb, dumpNeighbours, nda } from '../linux/netlink/neighbour.ts';
import { dumpRoutes, rta } from '../linux/netlink/route.ts';
import { clock } from '../linux/sys.ts';
import { sys } from '../linux/sys-bun.ts';
import { formatAddress, isLinkLocal } from '../net/address.ts';
import { formatMac } from '../net/mac.ts';
import { formatPrefix } from '../net/prefix.ts';
import { type Cluster, startCluster } from '../test/lab/cluster.ts';
import { run } from '../test/lab/commands.ts';
import { type Damage, findTarget, inflict, ruleDamages, tunnelDamages } from '../test/lab/damage.ts';
import type { Host } from '../test/lab/host.ts';
import { withNamespace } from '../test/lab/namespaces.ts';
import { waitFor } from '../test/lab/wait.ts';
import { median } from './sample.ts';

const config = {
  Network: '10.244.0.0/16',
  EnableIPv6: true,
  IPv6Network: 'fd00:10:244::/48',
  Backend: { Type: 'vxlan' },
};

const nowMs = (): number => sys.clock_gettime(clock.CLOCK_MONOTONIC);
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Each damage meets weftd at rest, as most do. */
const restMs = 100;
const deadlineMs = 10_000;

/** A host's kernel state as text, in a millisecond or two. */
class Witness {
  readonly #connection: NetlinkConnection;
  readonly #namespace: string;

  constructor({ namespace }: Host) {
    this.#namespace = namespace;
    this.#connection = withNamespace(namespace, (fd) => openNetlink(sys, { namespace: fd }));
  }

  close(): void {
    this.#connection.close();
  }

  /** Links, addresses, routes, permanent neighbours and FDB entries, without the values that every new device has anew. */
  look(): string {
    const connection = this.#connection;
    const links = connection.dump(dumpLinks()).filter(({ name }) => name !== 'foreign0');
    const nameOf = new Map(links.map(({ index, name }) => [index, name]));
    const name = (index: number | undefined): string => nameOf.get(index ?? 0) ?? '-';
    const lines = links.map(
      ({ name, mac, mtuBytes, flags, master, kindData }) =>
        `${name} ${mac && formatMac(mac)} ${mtuBytes} ${flags & (iff.IFF_UP | iff.IFF_NOARP | iff.IFF_LOWER_UP)} ${master} ${kindData}`,
    );
    for (const { index, prefix, local, scope, flags } of connection.dump(dumpAddresses())) {
      if (isLinkLocal(prefix.address)) continue;
      lines.push(`${name(index)} ${formatPrefix(prefix)} ${local && formatAddress(local)} ${scope} ${flags}`);
    }
    for (const family of [4, 6] as const) {
      for (const route of connection.dump(dumpRoutes({ family, table: rta.RT_TABLE_MAIN }))) {
        const { destination, gateway, oif, type, protocol, metric, mtuBytes, onlink } = route;
        if (isLinkLocal(destination.address)) continue;
        lines.push(
          `${formatPrefix(destination)} ${gateway && formatAddress(gateway)} ${name(oif)} ${type} ${protocol} ${metric} ${mtuBytes} ${onlink}`,
        );
      }
      for (const { index, address, mac, state } of connection.dump(dumpNeighbours({ family }))) {
        if (state & nda.NUD_PERMANENT) lines.push(`${name(index)} ${formatAddress(address!)} ${mac && formatMac(mac)}`);
      }
    }
    for (const { index, address, mac, port } of connection.dump(dumpFdb())) {
      if (address) lines.push(`${name(index)} fdb ${mac && formatMac(mac)} ${formatAddress(address)} ${port}`);
    }
    return lines.sort().join('\n');
  }

  rules(): string {
    return run(['nft', '-s', 'list', 'ruleset'], { namespace: this.#namespace });
  }

  setting(path: string): string {
    return run(['cat', `/proc/sys/${path}`], { namespace: this.#namespace }).trim();
  }
}

/** Until it is right again, in milliseconds. */
async function timeTo(what: string, isRight: () => boolean): Promise<number> {
  const start = nowMs();
  for (;;) {
    if (isRight()) return nowMs() - start;
    if (nowMs() - start > deadlineMs) throw new Error(`${what}: not put right in ${deadlineMs} ms`);
    await sleep(1);
  }
}

async function healDamage(host: Host, witness: Witness, damage: Damage, peerAddress: string): Promise<number> {
  const target = findTarget(host, damage.family, peerAddress);
  const { setting } = damage;
  const path = setting?.path(target);
  const look = damage.rules ? () => witness.rules() : () => witness.look();
  const before = look();
  inflict(host, damage, target);
  const ms = await timeTo(
    damage.what,
    () => look() === before && (path === undefined || witness.setting(path) === setting!.value),
  );
  for (const command of damage.after ?? []) run(command.split(' '), { namespace: host.namespace });
  await sleep(restMs);
  return ms;
}

/** The host's own lease deleted: until it is in etcd again, and the other host has the way to it. */
async function healOwnLease(cluster: Cluster, host: Host, other: Witness): Promise<number> {
  const name = etcdKey(cluster, host);
  if (name === undefined) throw new Error(`${host.name} has no lease`);
  const before = other.look();
  cluster.etcdctl('del', name);
  const ms = await timeTo('own lease deleted', () => etcdKey(cluster, host) === name && other.look() === before);
  await sleep(restMs);
  return ms;
}

/** The key of the host's lease. */
const etcdKey = (cluster: Cluster, { subnet }: Host): string | undefined =>
  cluster
    .etcdctl('get', '--prefix', '/coreos.com/network/subnets/', '--keys-only')
    .split('\n')
    .find((key) => key.includes(subnet.replace('/', '-')));

/** A peer that nobody is behind, whose MAC somebody changes: until nothing of the old one is left. */
async function healPeerMac(cluster: Cluster, witness: Witness, round: number): Promise<number> {
  const mac = `02:00:00:00:01:${round.toString(16).padStart(2, '0')}`;
  const old = `02:00:00:00:01:${(round + 1).toString(16).padStart(2, '0')}`;
  const put = (vtepMac: string): void => {
    const data = { VNI: 1, VtepMAC: vtepMac };
    const value = { PublicIP: '192.168.77.200', PublicIPv6: 'fd77::200', BackendType: 'vxlan' };
    const text = JSON.stringify({ ...value, BackendData: data, BackendV6Data: data });
    cluster.put('subnets/10.244.200.0-24&fd00:10:244:c8::-64', text);
  };
  put(old);
  await waitFor('the peer', () => witness.look().includes(old));
  await sleep(restMs);
  put(mac);
  const ms = await timeTo("a peer's MAC changed", () => {
    const now = witness.look();
    return now.split(mac).length === 5 && !now.includes(old);
  });
  await sleep(restMs);
  return ms;
}

interface Row {
  readonly what: string;
  readonly samples: Map<string, number[]>;
}

function formatTable(rows: readonly Row[], count: number): string {
  const cell = (row: Row, column: string): string => {
    const samples = row.samples.get(column);
    return samples ? `${median(samples).toFixed(0)} ms | ${Math.max(...samples).toFixed(0)} ms` : '– | –';
  };
  return [
    `| healed after (${count} each) | IPv4: median | worst | IPv6: median | worst |`,
    '| --- | --- | --- | --- | --- |',
    ...rows.map((row) => `| ${row.what} | ${cell(row, '4')} | ${cell(row, '6')} |`),
  ].join('\n');
}

/** @param count of times that each damage is done */
export async function benchHeal(count: number): Promise<string> {
  const cluster = await startCluster('heal', {
    hosts: 2,
    families: [4, 6],
    config: JSON.stringify(config),
    arguments: ['--ip-masq'],
  });
  const witnesses: Witness[] = [];
  try {
    const [one, two] = cluster.hosts as [Host, Host];
    for (const host of cluster.hosts) witnesses.push(new Witness(host));
    const [here, there] = witnesses as [Witness, Witness];
    const rows = new Map<string, Row>();
    const note = (what: string, column: string, ms: number): void => {
      const name = what.replace(/ \(IPv6\)$/, '');
      const row = rows.get(name) ?? { what: name, samples: new Map<string, number[]>() };
      rows.set(name, row);
      row.samples.set(column, [...(row.samples.get(column) ?? []), ms]);
    };
    const damages = [...tunnelDamages(4), ...tunnelDamages(6), ...ruleDamages];
    for (let round = 0; round < count; round++) {
      for (const damage of damages) {
        const ms = await healDamage(one, here, damage, two.addresses[damage.family === 4 ? 0 : 1]!);
        note(damage.what, String(damage.family), ms);
      }
      note(
        "own lease deleted in etcd (until the peer's routes are back)",
        '4',
        await healOwnLease(cluster, one, there),
      );
    }
    for (let round = 0; round < count; round++) {
      note(
        "a peer's MAC changed in etcd (until nothing has the old one)",
        '4',
        await healPeerMac(cluster, here, round),
      );
    }
    return formatTable([...rows.values()], count);
  } finally {
    for (const witness of witnesses) witness.close();
    cluster.remove();
  }
}
