/** Kernel settings, and what a host can run out of. */

import { statfsSync } from 'node:fs';
import { isTunnelName } from '../../../daemon/backends/map.ts';
import { advertisedInterfaces } from '../../../daemon/host/host-state.ts';
import { planSysctls } from '../../../daemon/host/sysctls.ts';
import { iff } from '../../../linux/netlink/link.ts';
import type { Family } from '../../../net/address.ts';
import { CliError } from '../../host.ts';
import { all, command, type HostCheck, type HostFinding } from '../host-check.ts';
import type { HostView } from '../host-view.ts';

/** The setting's name for sysctl(8), which writes a dot inside an interface's name as a slash. */
const nameOf = (path: readonly string[]): string => path.map((part) => part.replaceAll('.', '/')).join('.');
const set = (path: readonly string[], value: string): string => command('sysctl', '-w', `${nameOf(path)}=${value}`);

/** An IPv4 tunnel has IPv4's settings: its name does not tell, its addresses do. */
const familiesOf = (host: HostView): Family[] => [...new Set(host.networks.map(({ address }) => address.family))];

const forwarding: HostCheck = {
  code: 'sysctl',
  title: 'a kernel setting that packets depend on has another value',
  severity: 'error',
  costMs: 5,
  why: "the host does not forward the containers' packets, or loses its route to the other hosts",
  remedy: '`sysctl -w net.ipv4.ip_forward=1`',
  safe: true,
  async find(host) {
    const external = await host.external();
    const families = familiesOf(host);
    if (external === undefined || families.length === 0) return [];
    const tunnels = host.links
      .filter(({ name }) => isTunnelName(name))
      .map(({ name }) => ({ name, family: (name.includes('v6') ? 6 : 4) as Family }));
    const read = (path: readonly string[]): string | undefined => host.sysctl(...path);
    const status = await host.status();
    const forwardsExternal = status instanceof CliError || status.ipMasq || status.devices.length === 0;
    const advertised = advertisedInterfaces(host.kernel);
    return planSysctls({ families, tunnels, external, advertised, forwardsExternal, read }).flatMap(
      ({ path, value }) => {
        const is = read(path);
        if (is === undefined || is === value) return [];
        return {
          subject: path.join('.'),
          facts: { value: is, wanted: value },
          what: `The kernel setting ${path.join('.')} is ${is}, and must be ${value}`,
          command: set(path, value),
        };
      },
    );
  },
};

const returnPath: HostCheck = {
  code: 'rp-filter',
  title: 'the kernel drops packets whose answers would leave by another interface',
  severity: 'warning',
  costMs: 5,
  why: "without masquerading, containers' packets that take different ways there and back are lost",
  remedy: '`sysctl -w net.ipv4.conf.eth0.rp_filter=2`',
  safe: false,
  async find(host) {
    const external = await host.external();
    const node = host.node();
    if (external === undefined || !node || node.ipMasq || !familiesOf(host).includes(4)) return [];
    const values = ['all', external].map((of) => Number(host.sysctl('net', 'ipv4', 'conf', of, 'rp_filter') ?? 0));
    if (Math.max(...values) !== 1) return [];
    return [
      {
        subject: external,
        facts: {},
        what: `The kernel setting net.ipv4.conf.${external}.rp_filter is strict, and weftd does not masquerade`,
        command: set(['net', 'ipv4', 'conf', external, 'rp_filter'], '2'),
      },
    ];
  },
};

/** kubelet's folder: on its hosts, services depend on the setting below. */
const kubeletFolder = '/var/lib/kubelet/pods';

const bridgeFilter: HostCheck = {
  code: 'bridge-nf-call',
  title: "packets between a bridge's ports pass no rules, and Kubernetes' services need that",
  severity: 'warning',
  costMs: 1,
  why: 'a container cannot reach a service whose answer comes from a container of the same host',
  remedy: '`modprobe br_netfilter && sysctl -w net.bridge.bridge-nf-call-iptables=1`',
  safe: false,
  find(host) {
    if (typeof host.sys.stat(kubeletFolder) === 'number') return [];
    return familiesOf(host).flatMap((family) => {
      const name = family === 4 ? 'bridge-nf-call-iptables' : 'bridge-nf-call-ip6tables';
      const is = host.sysctl('net', 'bridge', name);
      if (is === '1') return [];
      const write = set(['net', 'bridge', name], '1');
      return {
        subject: name,
        facts: { value: is ?? 'missing' },
        what: `The kernel setting net.bridge.${name} is ${is ?? 'missing'}, and Kubernetes needs 1`,
        command: is === undefined ? all(command('modprobe', 'br_netfilter'), write) : write,
      };
    });
  },
};

const neighbourTable: HostCheck = {
  code: 'neighbour-table',
  title: "the kernel's table of neighbours is too small",
  severity: 'warning',
  costMs: 5,
  why: 'with a full table, new containers and hosts cannot be reached ("neighbour table overflow")',
  remedy: '`sysctl -w net.ipv4.neigh.default.gc_thresh3=8192 -w net.ipv4.neigh.default.gc_thresh2=4096`',
  safe: false,
  async find(host) {
    const status = await host.status();
    const peers = status instanceof CliError ? 0 : status.peers.length;
    const needed = peers + host.attachments().filter(({ host: end }) => typeof end === 'object').length;
    return familiesOf(host).flatMap((family) => {
      const path = ['net', family === 4 ? 'ipv4' : 'ipv6', 'neigh', 'default'];
      const limit = Number(host.sysctl(...path, 'gc_thresh3') ?? Number.NaN);
      if (!(needed > limit * 0.8)) return [];
      const wanted = 2 ** Math.ceil(Math.log2(needed * 4));
      return {
        subject: [...path, 'gc_thresh3'].join('.'),
        facts: { limit, needed },
        what: `The kernel keeps ${limit} neighbours of IPv${family}, and this host has ${needed} peers and containers`,
        command: all(set([...path, 'gc_thresh3'], String(wanted)), set([...path, 'gc_thresh2'], String(wanted / 2))),
      };
    });
  },
};

const connections: HostCheck = {
  code: 'conntrack-full',
  title: "the kernel's table of connections is nearly full",
  severity: 'error',
  costMs: 1,
  why: 'the kernel drops the first packets of new connections ("nf_conntrack: table full, dropping packet")',
  remedy: '`sysctl -w net.netfilter.nf_conntrack_max=524288`',
  safe: true,
  find(host) {
    const [count, max] = ['nf_conntrack_count', 'nf_conntrack_max'].map((name) =>
      Number(host.sysctl('net', 'netfilter', name) ?? Number.NaN),
    ) as [number, number];
    if (!(max > 0 && count >= max * 0.9)) return [];
    return [
      {
        subject: 'nf_conntrack_max',
        facts: { count, max },
        what: `The kernel tracks ${count} connections of at most ${max}`,
        command: set(['net', 'netfilter', 'nf_conntrack_max'], String(max * 2)),
      },
    ];
  },
};

/** Below this, the next write of weftd or of a plugin may fail. */
const leastBytes = 4 * 1024 * 1024;
const leastFiles = 64;
const TMPFS_MAGIC = 0x01021994;

const disk: HostCheck = {
  code: 'disk-full',
  title: 'a file system that Weft writes to is full',
  severity: 'error',
  costMs: 1,
  why: 'no container starts: neither its address nor its state can be written',
  remedy:
    'free some space, which `du -xh /var/lib | sort -h | tail` finds; for /run, `mount -o remount,size=256M /run`',
  safe: false,
  find(host) {
    const seen = new Set<string>();
    return [host.paths.runDir, host.paths.dataDir, '/var/lib'].flatMap((path): HostFinding | readonly never[] => {
      const status = host.sys.stat(path);
      if (typeof status === 'number' || seen.has(String(status.dev))) return [];
      seen.add(String(status.dev));
      const { bsize, bavail, blocks, files, ffree, type } = statfsSync(path);
      const lacksFiles = files > 0 && ffree < leastFiles;
      if (blocks === 0 || (bavail * bsize >= leastBytes && !lacksFiles)) return [];
      const left = lacksFiles ? `${ffree} files` : `${Math.floor((bavail * bsize) / 1024)} kB`;
      const size = Math.ceil((blocks * bsize) / 2 ** 20) + 64;
      return {
        subject: path,
        facts: { freeBytes: bavail * bsize, freeFiles: ffree },
        what: `The file system of "${path}" has only ${left} left`,
        ...(type === TMPFS_MAGIC && !lacksFiles
          ? { command: command('mount', '-o', `remount,size=${size}M`, mountPointOf(host, path)) }
          : {}),
      };
    });
  },
};

/** The longest mount point above the path, by proc(5)'s list. */
function mountPointOf(host: HostView, path: string): string {
  const points = (host.text('/proc/self/mounts') ?? '')
    .split('\n')
    .map((line) =>
      (line.split(' ')[1] ?? '').replace(/\\(\d{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8))),
    )
    .filter((point) => point !== '' && (path === point || path.startsWith(point === '/' ? '/' : `${point}/`)));
  return points.sort((a, b) => b.length - a.length)[0] ?? path;
}

const externalDown: HostCheck = {
  code: 'external-down',
  title: 'the interface to the other hosts has no carrier',
  severity: 'error',
  costMs: 5,
  why: 'no other host can be reached',
  remedy: '`ip link set eth0 up`, or look at the cable and the switch',
  safe: false,
  async find(host) {
    const external = await host.external();
    const link = host.links.find(({ name }) => name === external);
    if (!link || (link.up && (link.flags & iff.IFF_RUNNING) !== 0)) return [];
    const what = `The interface "${link.name}", which leads to the other hosts, ${link.up ? 'has no carrier' : 'is down'}`;
    return [
      {
        subject: link.name,
        facts: {},
        what,
        ...(link.up ? {} : { command: command('ip', 'link', 'set', 'dev', link.name, 'up') }),
      },
    ];
  },
};

export const settingChecks: readonly HostCheck[] = [
  forwarding,
  returnPath,
  bridgeFilter,
  neighbourTable,
  connections,
  disk,
  externalDown,
];
