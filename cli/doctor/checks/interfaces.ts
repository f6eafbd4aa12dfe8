/** Interfaces, their addresses and routes: Weft's own, and others that are in the way. */

import { routeProtocol } from '../../../daemon/backends/entries.ts';
import { backends, isTunnelName } from '../../../daemon/backends/map.ts';
import type { InterfaceAddress } from '../../../linux/netlink/address.ts';
import type { Link } from '../../../linux/netlink/link.ts';
import { outgoingInterface, rta } from '../../../linux/netlink/route.ts';
import { addressBits, formatAddress } from '../../../net/address.ts';
import { formatPrefix, type Prefix, prefixContains } from '../../../net/prefix.ts';
import { CliError } from '../../host.ts';
import { command, type HostCheck, type HostFinding } from '../host-check.ts';
import type { HostView } from '../host-view.ts';

const isSingle = ({ length, address }: Prefix): boolean => length === addressBits(address.family);
const isInside = (inner: Prefix, outer: Prefix): boolean =>
  inner.length >= outer.length && prefixContains(outer, inner.address);

/** The names of interfaces come from the kernel, and one may be gone by now. */
const nameOf = (host: HostView, index: number): string => host.link(index)?.name ?? `interface ${index}`;

const deleteAddress = (address: InterfaceAddress, name: string): string =>
  command('ip', 'address', 'del', formatPrefix(address.prefix), 'dev', name);

/** The tunnels that should be here: as weftd says, else those that are. */
async function tunnels(host: HostView): Promise<readonly string[]> {
  const status = await host.status();
  if (!(status instanceof CliError) && status.state !== 'starting') return status.devices;
  return host.links.map(({ name }) => name).filter(isTunnelName);
}

const tunnelDown: HostCheck = {
  code: 'tunnel-down',
  title: 'a tunnel device is missing or down',
  severity: 'error',
  costMs: 5,
  why: 'no packet reaches the containers of other hosts',
  remedy: '`ip link set flannel.1 up`; a missing device comes back with `systemctl restart weftd`',
  safe: true,
  async find(host) {
    return (await tunnels(host)).flatMap((name) => {
      const link = host.links.find((each) => each.name === name);
      if (link?.up) return [];
      const up = command('ip', 'link', 'set', 'dev', name, 'up');
      return {
        subject: name,
        facts: {},
        what: `The tunnel device "${name}" is ${link ? 'down' : 'missing'}`,
        command: link ? up : command('systemctl', 'restart', 'weftd'),
      };
    });
  },
};

/** The bridges that have this node's subnet. */
const carriers = (host: HostView): { readonly link: Link; readonly address: InterfaceAddress }[] =>
  host.addresses.flatMap((address) => {
    const link = host.link(address.index);
    const carries = !isSingle(address.prefix) && host.isInSubnets(address.prefix);
    return link && carries && !isTunnelName(link.name) ? { link, address } : [];
  });

const bridgeDown: HostCheck = {
  code: 'bridge-down',
  title: "the containers' bridge is down",
  severity: 'error',
  costMs: 5,
  why: 'no container of this host reaches anything',
  remedy: '`ip link set cni0 up`',
  safe: true,
  find(host) {
    const down = new Set(carriers(host).flatMap(({ link }) => (link.up ? [] : link.name)));
    return [...down].map((name) => ({
      subject: name,
      facts: {},
      what: `The bridge "${name}" is down`,
      command: command('ip', 'link', 'set', 'dev', name, 'up'),
    }));
  },
};

const containerLinkDown: HostCheck = {
  code: 'container-link',
  title: "the host's end of a container's interface is down, or is no port of the bridge",
  severity: 'error',
  costMs: 10,
  why: 'the container reaches nothing, though it runs',
  remedy: '`ip link set vethNAME master cni0 up`',
  safe: true,
  find(host) {
    const bridges = carriers(host).filter(({ link }) => link.kind === 'bridge');
    const bridge = bridges.find(({ link }) => link.name === 'cni0') ?? bridges[0];
    return host.attachments().flatMap(({ host: end, containerId, addresses }) => {
      if (typeof end === 'string' || !end.alias.startsWith('weft ')) return [];
      const link = host.link(end.index);
      const isOfNode = addresses.some((address) => host.subnets.some((subnet) => prefixContains(subnet, address)));
      const isLoose = isOfNode && bridge !== undefined && link !== undefined && link.master === undefined;
      if (end.up && !isLoose) return [];
      const fault = end.up ? `is no port of the bridge "${bridge!.link.name}"` : 'is down';
      return {
        subject: end.name,
        facts: { container: containerId },
        what: `The interface "${end.name}" of the container "${containerId}" ${fault}`,
        command: command('ip', 'link', 'set', 'dev', end.name, ...(isLoose ? ['master', bridge!.link.name] : []), 'up'),
      };
    });
  },
};

const subnetCarrier: HostCheck = {
  code: 'subnet-carrier',
  title: "several interfaces have this node's subnet",
  severity: 'error',
  costMs: 5,
  why: 'packets reach the containers behind one of the interfaces only, and two containers can have one address',
  remedy: '`ip address del 10.244.7.1/24 dev docker0`',
  safe: false,
  find: (host) =>
    host.subnets.flatMap((subnet) => {
      const all = carriers(host).filter(({ address }) => isInside(address.prefix, subnet));
      if (new Set(all.map(({ link }) => link.index)).size < 2) return [];
      // The one with containers stays, else the plugins' own.
      const ports = ({ link }: { link: Link }): number =>
        host.links.filter(({ master }) => master === link.index).length;
      const stays = [...all].sort((a, b) => ports(b) - ports(a) || rank(a.link) - rank(b.link))[0]!.link;
      return all
        .filter(({ link }) => link.index !== stays.index)
        .map(({ link, address }) => ({
          subject: link.name,
          facts: { subnet: formatPrefix(subnet), address: formatPrefix(address.prefix) },
          what: `"${link.name}" has ${formatPrefix(address.prefix)} of this node's subnet, which "${stays.name}" has, too`,
          command: deleteAddress(address, link.name),
        }));
    }),
};

const rank = ({ name }: Link): number => (name === 'cni0' ? 0 : 1);

/** Whether weftd, the plugins or the kernel for one of their addresses made the route. */
const isOurs = (host: HostView, protocol: number, name: string): boolean =>
  protocol === routeProtocol.RTPROT_WEFT || isTunnelName(name) || host.containerLinks().includes(name);

const networkOverlap: HostCheck = {
  code: 'network-overlap',
  title: "another program's route leads a part of the cluster's network elsewhere",
  severity: 'error',
  costMs: 10,
  why: 'packets to these containers leave by the wrong interface and are lost',
  remedy: '`ip route del 10.244.9.0/24 dev eth1`, or choose another network for one of the two',
  safe: false,
  find: (host) =>
    host.routes.flatMap((route) => {
      const { destination, protocol, type, gateway } = route;
      const index = outgoingInterface(route);
      const name = index === undefined ? '' : nameOf(host, index);
      const network = host.networks.find((each) => isInside(destination, each));
      if (!network || type === rta.RTN_LOCAL || isOurs(host, protocol, name)) return [];
      const address = host.addresses.find((each) => each.index === index && isInside(each.prefix, destination));
      const isConnected = protocol === rta.RTPROT_KERNEL && address !== undefined;
      const where = name === '' ? 'nowhere' : `to "${name}"`;
      return {
        subject: formatPrefix(destination),
        facts: { interface: name, network: formatPrefix(network) },
        what: `A route leads ${formatPrefix(destination)} ${where}, and it is a part of the cluster's network ${formatPrefix(network)}`,
        command: isConnected
          ? deleteAddress(address, name)
          : command(
              ...['ip', ...(destination.address.family === 6 ? ['-6'] : []), 'route', 'del', formatPrefix(destination)],
              ...(gateway ? ['via', formatAddress(gateway)] : []),
              ...(name === '' ? [] : ['dev', name]),
            ),
      };
    }),
};

const staleAddress: HostCheck = {
  code: 'stale-address',
  title: "the containers' bridge has an address of a subnet that this node no longer has",
  severity: 'warning',
  costMs: 10,
  why: 'the subnet may be another host by now: packets to its containers end here',
  remedy: '`ip address del 10.244.3.1/24 dev cni0`',
  safe: false,
  find(host) {
    if (host.subnets.length === 0) return [];
    const bridges = new Set(host.containerLinks());
    return host.addresses.flatMap((address) => {
      const { prefix, index } = address;
      const name = nameOf(host, index);
      const isOfCluster = host.networks.some((network) => isInside(prefix, network));
      if (!isOfCluster || isSingle(prefix) || !(bridges.has(name) || name === 'cni0') || host.isInSubnets(prefix))
        return [];
      // Containers of before a change keep their addresses until they end.
      const isUsed = host.attachments().some(({ addresses }) => addresses.some((each) => prefixContains(prefix, each)));
      if (isUsed) return [];
      return {
        subject: formatPrefix(prefix),
        facts: { interface: name },
        what: `"${name}" has the address ${formatPrefix(prefix)}, which is in no subnet of this node`,
        command: deleteAddress(address, name),
      };
    });
  },
};

/** Interfaces that only these programs make. */
const foreignNames: readonly (readonly [RegExp, string])[] = [
  [/^cali[0-9a-f]{11}$|^vxlan(-v6)?\.calico$|^wireguard\.cali$/, 'Calico'],
  [/^cilium_(host|net|vxlan|geneve|wg0)$|^lxc_health$/, 'Cilium'],
  [/^weave$|^vethwe-/, 'Weave'],
  [/^kube-bridge$/, 'kube-router'],
];

/** Old devices of flannel's: VXLAN devices by its names that no weftd uses. */
async function oldTunnels(host: HostView): Promise<readonly Link[]> {
  const status = await host.status();
  if (status instanceof CliError || status.state === 'starting') return [];
  const isUsed = (link: Link): boolean =>
    status.devices.includes(link.name) ||
    host.routes.some(
      (route) => route.protocol === routeProtocol.RTPROT_WEFT && outgoingInterface(route) === link.index,
    );
  return host.links.filter(
    (link) => isTunnelName(link.name) && backends.size > 0 && link.kind === 'vxlan' && !isUsed(link),
  );
}

const leftoverInterface: HostCheck = {
  code: 'leftover-interface',
  title: 'another network program has left an interface',
  severity: 'warning',
  costMs: 5,
  why: "its routes, rules or ports can be in Weft's way: a second VXLAN device with the same port gets no packet",
  remedy: '`ip link delete cilium_vxlan`',
  safe: false,
  async find(host) {
    const others = host.links.flatMap(({ name }) => {
      const owner = foreignNames.find(([pattern]) => pattern.test(name))?.[1];
      return owner === undefined ? [] : leftover(name, owner);
    });
    return [...others, ...(await oldTunnels(host)).map(({ name }) => leftover(name, 'an earlier flannel'))];
  },
};

const leftover = (name: string, owner: string): HostFinding => ({
  subject: name,
  facts: { owner },
  what: `The interface "${name}" is of ${owner}, and Weft does not use it`,
  command: command('ip', 'link', 'delete', 'dev', name),
});

/** ethtool's names of the features, and its short names for them. */
const features = [
  ['tx-checksumming', 'tx'],
  ['generic-segmentation-offload', 'gso'],
  ['generic-receive-offload', 'gro'],
] as const;

const offloads: HostCheck = {
  code: 'offloads',
  title: 'offloads of a tunnel device are off',
  severity: 'warning',
  costMs: 20,
  why: 'each packet costs several times the processor time, and throughput falls',
  remedy: '`ethtool -K flannel.1 tx on gso on gro on`',
  safe: false,
  async find(host, signal) {
    const ethtool = host.findProgram('ethtool');
    if (ethtool === undefined) return [];
    const found: HostFinding[] = [];
    for (const name of await tunnels(host)) {
      if (!host.links.some((link) => link.name === name)) continue;
      const { stdout } = await host.runProgram(ethtool, ['-k', name], { signal, timeoutMs: 2000 });
      // `[fixed]` cannot be changed.
      const lines = new Set(stdout.split('\n').map((line) => line.trim()));
      const off = features.filter(([feature]) => lines.has(`${feature}: off`));
      if (off.length === 0) continue;
      found.push({
        subject: name,
        facts: { off: off.map(([feature]) => feature).join() },
        what: `The tunnel device "${name}" has ${off.map(([feature]) => feature).join(' and ')} off`,
        command: command('ethtool', '-K', name, ...off.flatMap(([, short]) => [short, 'on'])),
      });
    }
    return found;
  },
};

export const interfaceChecks: readonly HostCheck[] = [
  tunnelDown,
  bridgeDown,
  containerLinkDown,
  subnetCarrier,
  networkOverlap,
  staleAddress,
  leftoverInterface,
  offloads,
];
