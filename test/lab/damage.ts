/** Damage that people and other programs do to a host's data path, as commands: for the test and the bench of healing. */

import type { Family } from '../../net/address.ts';
import { run } from './commands.ts';
import type { Host } from './host.ts';
import { readFdb, readNeighbours, readRoutes } from './kernel-state.ts';

/** A peer as a host's kernel has it. */
export interface Target {
  readonly family: Family;
  /** The tunnel device. */
  readonly device: string;
  /** The host's own address on it, with its length. */
  readonly address: string;
  /** The peer's subnet, the address in it that answers, its tunnel's MAC, its host. */
  readonly subnet: string;
  readonly endpoint: string;
  readonly mac: string;
  readonly destination: string;
}

export interface Damage {
  readonly what: string;
  readonly family: Family;
  /** Commands on the host, each as its words with single spaces between. */
  readonly commands: (target: Target) => readonly string[];
  /** Takes away what else the commands have made, once all is right again. */
  readonly after?: readonly string[];
  /** The kernel setting that it damages: the path below /proc/sys, and the right value. */
  readonly setting?: { readonly path: (target: Target) => string; readonly value: string };
  /** It is about the packet filter. */
  readonly rules?: true;
}

/** The peer at `destination` of a host whose tunnels are up. */
export function findTarget(host: Host, family: Family, destination: string): Target {
  const device = family === 4 ? 'flannel.1' : 'flannel-v6.1';
  const fdb = readFdb(host.namespace).find((entry) => entry.device === device && entry.destination === destination);
  const neighbour = readNeighbours(host.namespace).find((entry) => entry.device === device && entry.mac === fdb?.mac);
  const route = readRoutes(host.namespace, family).find(({ gateway }) => gateway && gateway === neighbour?.address);
  const own = run(['ip', '-n', host.namespace, `-${family}`, '-br', 'addr', 'show', device, 'scope', 'global']);
  const address = own.trim().split(/\s+/)[2];
  if (!fdb || !neighbour || !route || !address) throw new Error(`${host.name} does not reach ${destination} by tunnel`);
  const { mac } = fdb;
  return { family, device, address, subnet: route.destination, endpoint: neighbour.address, mac, destination };
}

const foreignMac = '02:00:00:00:0b:ad';
const foreign = {
  4: { host: '192.168.77.99', address: '198.51.100.9/32' },
  6: { host: 'fd77::99', address: '2001:db8:bad::9/128' },
} as const;

/** Damage to a tunnel and its entries. */
export function tunnelDamages(family: Family): Damage[] {
  const ip = `ip -${family}`;
  const { host: otherHost, address: otherAddress } = foreign[family];
  const damage = (
    what: string,
    commands: Damage['commands'],
    more: Partial<Pick<Damage, 'after' | 'setting'>> = {},
  ): Damage => ({ what: family === 4 ? what : `${what} (IPv6)`, family, commands, ...more });
  const nodad = family === 6 ? ' nodad' : '';
  return [
    damage('VXLAN device deleted', ({ device }) => [`ip link del ${device}`]),
    damage('VXLAN device set down', ({ device }) => [`ip link set ${device} down`]),
    damage('its MAC changed', ({ device }) => [`ip link set ${device} address ${foreignMac}`]),
    damage('its MTU changed', ({ device }) => [`ip link set ${device} mtu 1300`]),
    damage('its name changed', ({ device }) => [`ip link set ${device} name lost${family}`]),
    damage('its ARP switched off', ({ device }) => [`ip link set ${device} arp off`]),
    damage('its carrier taken', ({ device }) => [`ip link set ${device} protodown on`]),
    damage('its MTU made too small for IPv6', ({ device }) => [`ip link set ${device} mtu 1000`]),
    damage('its learning switched on', ({ device }) => [`ip link set ${device} type vxlan learning`]),
    damage('its TTL and TOS changed', ({ device }) => [`ip link set ${device} type vxlan ttl 1 tos inherit`]),
    damage('its remote host set', ({ device }) => [`ip link set ${device} type vxlan remote ${otherHost}`]),
    damage(
      'made a port of a bridge',
      ({ device }) => ['ip link add foreign0 type bridge', `ip link set ${device} master foreign0`],
      { after: ['ip link del foreign0'] },
    ),
    damage('its address deleted', ({ device, address }) => [`${ip} addr del ${address} dev ${device}`]),
    damage('a foreign address added', ({ device }) => [`${ip} addr add ${otherAddress} dev ${device}${nodad}`]),
    damage('route deleted', ({ subnet }) => [`${ip} route del ${subnet}`]),
    damage('all its routes flushed', ({ device }) => [`${ip} route flush dev ${device} proto 87`]),
    damage('route led to another next hop', ({ subnet }) => [`${ip} route replace ${subnet} via ${otherHost}`]),
    damage('route made a blackhole', ({ subnet }) => [`${ip} route replace blackhole ${subnet}`]),
    damage('route given another MTU', ({ subnet, endpoint, device }) => [
      `${ip} route replace ${subnet} via ${endpoint} dev ${device} onlink mtu 600`,
    ]),
    damage('neighbour deleted', ({ device, endpoint }) => [`ip neigh del ${endpoint} dev ${device}`]),
    damage('all its neighbours flushed', ({ device }) => [`${ip} neigh flush dev ${device} nud permanent`]),
    damage('neighbour given another MAC', ({ device, endpoint }) => [
      `ip neigh replace ${endpoint} lladdr ${foreignMac} dev ${device} nud permanent`,
    ]),
    damage('FDB entry deleted', ({ device, mac, destination }) => [
      `bridge fdb del ${mac} dev ${device} dst ${destination}`,
    ]),
    damage('FDB entry led to another host', ({ device, mac }) => [
      `bridge fdb replace ${mac} dev ${device} dst ${otherHost}`,
    ]),
    damage('FDB entry led to another port', ({ device, mac, destination }) => [
      `bridge fdb replace ${mac} dev ${device} dst ${destination} port 9999`,
    ]),
    damage('an FDB entry for the rest added', ({ device }) => [
      `bridge fdb append 00:00:00:00:00:00 dev ${device} dst ${otherHost}`,
    ]),
    ...(family === 4
      ? [
          damage('ip_forward set to 0', () => ['sysctl -qw net.ipv4.ip_forward=0'], {
            setting: { path: () => 'net/ipv4/ip_forward', value: '1' },
          }),
          damage("the tunnel's forwarding set to 0", ({ device }) => setting(`net/ipv4/conf/${device}/forwarding`, 0), {
            setting: { path: ({ device }) => `net/ipv4/conf/${device}/forwarding`, value: '1' },
          }),
          damage(
            "the tunnel's rp_filter made strict",
            ({ device }) => setting(`net/ipv4/conf/${device}/rp_filter`, 1),
            {
              setting: { path: ({ device }) => `net/ipv4/conf/${device}/rp_filter`, value: '2' },
            },
          ),
        ]
      : [
          damage('forwarding set to 0', () => ['sysctl -qw net.ipv6.conf.all.forwarding=0'], {
            setting: { path: () => 'net/ipv6/conf/all/forwarding', value: '1' },
          }),
          damage('IPv6 switched off on the device', ({ device }) => setting(`net/ipv6/conf/${device}/disable_ipv6`, 1)),
        ]),
  ];
}

/** sysctl(8) takes slashes as separators if the first one is a slash: names of interfaces have dots. */
const setting = (path: string, value: number): string[] => [`sysctl -qw ${path}=${value}`];

/** Damage to the rules of a weftd with --ip-masq. */
export const ruleDamages: readonly Damage[] = (
  [
    ['masquerading flushed', 'nft flush chain inet weft postrouting'],
    ['forwarding flushed', 'nft flush chain inet weft forward'],
    ['the pairs of peers and subnets flushed', 'nft flush set inet weft inner4-24'],
    ['the rule against forged sources deleted', 'nft flush chain inet weft container-lock-out'],
    ['packets tracked again', 'nft flush chain inet weft untracked-out'],
    ['weftd’s table deleted', 'nft delete table inet weft'],
    ['all rules flushed', 'nft flush ruleset'],
    ['a foreign rule put before ours', 'nft insert rule inet weft postrouting counter accept'],
  ] as const
).map(([what, command]) => ({ what, family: 4, commands: () => [command], rules: true }));

/** Does the damage to the host. */
export function inflict(host: Host, damage: Damage, target: Target): void {
  for (const command of damage.commands(target)) run(command.split(' '), { namespace: host.namespace });
}
