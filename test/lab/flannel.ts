/**
 * A host of flannel's: programmed purely from flannel-format data, by `ip`, `bridge` and `iptables`, with the reference
 * plugins for its containers.
 *
 * `FlannelImitation` is a reading of flannel's formats of its own, shared with nothing of Weft's, and strict: whatever
 * in etcd flannel could not parse, and whatever in the kernel it could not go on with, is an error here.
 * `RealFlanneld` is flanneld itself, where WEFT_TEST_FLANNELD says that there is one.
 */

import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Family } from '../../net/address.ts';
import { etcdPrefix } from './cluster.ts';
import { run, type Service } from './commands.ts';
import type { Conflist } from './conflist.ts';
import {
  type Config,
  deviceName,
  families,
  hostLength,
  type Lease,
  networkAddress,
  overheadBytes,
  type PerFamily,
  readConfig,
  readLease,
  readSubnetEnv,
  writeLease,
} from './flannel-formats.ts';
import { Host } from './host.ts';
import { readLink } from './kernel-state.ts';
import { waitFor } from './wait.ts';

export interface FlannelOptions {
  readonly ipMasq?: boolean;
}

/** A stand-in for flanneld on a host, which starts and stops. */
export interface Flannel {
  /** Takes a subnet, makes device, peers and rules; resolves once subnet.env is there and the peers are programmed. */
  start(): Promise<void>;
  /** Ends. All that it made stays, as with flanneld. */
  stop(): Promise<void>;
  /** Does what etcd says now. */
  follow(): void;
}

const tableTools = { 4: 'iptables', 6: 'ip6tables' } as const;
const multicast = { 4: '224.0.0.0/4', 6: 'ff00::/8' } as const;

class FlannelImitation implements Flannel {
  readonly #host: Host;
  readonly #options: FlannelOptions;
  #programmed = new Map<string, Lease>();
  #config: Config | undefined;
  #own: Lease | undefined;

  constructor(host: Host, options: FlannelOptions) {
    this.#host = host;
    this.#options = options;
  }

  #list(): Lease[] {
    // Sic: without a slash at the end.
    const text = this.#host.etcd.ctl('get', '--prefix', `${etcdPrefix}/subnets`, '-w', 'json');
    const { kvs = [] } = JSON.parse(text) as { kvs?: { key: string; value: string }[] };
    const decode = (base64: string): string => Buffer.from(base64, 'base64').toString();
    return kvs.map(({ key, value }) => readLease(decode(key), decode(value)));
  }

  #publicAddresses(config: Config): PerFamily<string> {
    const { addresses } = readLink(this.#host.namespace, 'eth0')!;
    const first = (family: Family): string =>
      networkAddress(addresses.find((address) => address.includes(':') === (family === 6))!);
    return Object.fromEntries(
      families.filter((family) => config.networks[family]).map((family) => [family, first(family)]),
    );
  }

  /** The subnet that it has; else the one in the subnet file, if that is free; else the first that is. */
  #chooseSubnets(config: Config, leases: readonly Lease[], publicAddresses: PerFamily<string>): PerFamily<string> {
    const key = config.networks[4] ? 4 : 6;
    const own = leases.find((lease) => lease.publicAddresses[key] === publicAddresses[key]);
    if (own) return own.subnets;
    const taken = new Set(leases.flatMap(({ subnets }) => Object.values(subnets)));
    if (existsSync(this.#host.subnetFile)) {
      const env = readSubnetEnv(this.#host.subnetFile);
      const [v4, v6] = [env['FLANNEL_SUBNET'], env['FLANNEL_IPV6_SUBNET']];
      const before: PerFamily<string> = {
        ...(v4 && { 4: v4.replace(/\.1\//, '.0/') }),
        ...(v6 && { 6: v6.replace(/::1\//, '::/') }),
      };
      const fits = families.every(
        (family) => (before[family] === undefined) === (config.networks[family] === undefined),
      );
      if (fits && Object.values(before).every((subnet) => !taken.has(subnet))) return before;
    }
    for (let number = 1; number < 256; number++) {
      const subnets: PerFamily<string> = {
        ...(config.networks[4] && { 4: config.networks[4].replace(/\.0\.0\/16$/, `.${number}.0/24`) }),
        ...(config.networks[6] && { 6: config.networks[6].replace(/::\/48$/, `:${number.toString(16)}::/64`) }),
      };
      if (Object.values(subnets).every((subnet) => !taken.has(subnet))) return subnets;
    }
    throw new Error('there is no free subnet');
  }

  /** Makes the device, or goes on with the one that is there: with its MAC. @throws where flannel would make it anew */
  #ensureDevice(config: Config, family: Family, subnet: string, local: string): string {
    const { namespace } = this.#host;
    const name = deviceName(family, config.vni);
    const mtu = readLink(namespace, 'eth0')!.mtu - overheadBytes[family];
    if (!readLink(namespace, name)) {
      const bytes = randomBytes(6);
      bytes[0] = (bytes[0]! & 0xfe) | 0x02;
      const mac = [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
      this.#host.ip(
        ...['link', 'add', name, 'address', mac, 'mtu', String(mtu), 'type', 'vxlan', 'id', String(config.vni)],
        ...['dev', 'eth0', 'local', local, 'dstport', String(config.port), 'nolearning'],
      );
    }
    run(['sysctl', '-qw', `net/ipv6/conf/${name}/accept_ra=0`], { namespace });
    const link = readLink(namespace, name)!;
    const { id, local: localV4, local6, link: lower, port, learning } = link.data;
    const is = { kind: link.kind, id, local: localV4 ?? local6, lower, port, learning: learning === true };
    const wanted = { kind: 'vxlan', id: config.vni, local, lower: 'eth0', port: config.port, learning: false };
    if (JSON.stringify(is) !== JSON.stringify(wanted)) {
      throw new Error(`flannel would make ${name} anew: it is ${JSON.stringify(is)}, not ${JSON.stringify(wanted)}`);
    }
    const address = `${networkAddress(subnet)}/${hostLength[family]}`;
    const foreign = link.addresses.filter((other) => other !== address);
    if (foreign.length > 0) throw new Error(`flannel would take ${foreign} from ${name}`);
    if (link.addresses.length === 0) this.#host.ip('addr', 'add', address, 'dev', name);
    this.#host.ip('link', 'set', name, 'up');
    return link.mac;
  }

  async start(): Promise<void> {
    const { etcd } = this.#host;
    const config = readConfig(etcd.ctl('get', `${etcdPrefix}/config`, '--print-value-only'));
    this.#config = config;
    this.#programmed = new Map();
    const publicAddresses = this.#publicAddresses(config);
    const subnets = this.#chooseSubnets(config, this.#list(), publicAddresses);
    const macs: PerFamily<string> = {};
    if (config.backend === 'vxlan') {
      for (const family of families) {
        if (!config.networks[family]) continue;
        macs[family] = this.#ensureDevice(config, family, subnets[family]!, publicAddresses[family]!);
      }
    }
    const lease = { subnets, publicAddresses, backendType: config.backend, macs };
    const { key, value } = writeLease(lease, config.vni);
    const granted = /lease ([\da-f]+) granted/.exec(etcd.ctl('lease', 'grant', '86400'));
    etcd.ctl('put', `--lease=${granted![1]}`, key, value);
    this.#own = { key, ...lease };
    await this.#makeRules(config, subnets);
    this.#writeSubnetFile(config, subnets);
    this.follow();
  }

  /** The rules are taken away and made again, one by one, as flannel does; here the gap is long enough to be seen. */
  async #makeRules({ networks }: Config, subnets: PerFamily<string>): Promise<void> {
    const { namespace } = this.#host;
    for (const family of families) {
      const [cluster, subnet] = [networks[family], subnets[family]];
      if (!cluster || !subnet) continue;
      const filter = (...words: string[]): string => run([tableTools[family], '-w', ...words], { namespace });
      const ensureChain = (table: string, chain: string, from: string, comment: string): void => {
        const jump = [from, '-m', 'comment', '--comment', comment, '-j', chain];
        const rules = run([`${tableTools[family]}-save`, '-t', table], { namespace });
        if (!rules.includes(`:${chain} `)) filter('-t', table, '-N', chain);
        else filter('-t', table, '-F', chain);
        if (!rules.includes(`-j ${chain}`)) filter('-t', table, '-A', ...jump);
      };
      const append = (table: string, chain: string, comment: string, ...words: string[]): void => {
        const at = words.indexOf('-j');
        const match = ['-m', 'comment', '--comment', comment];
        filter('-t', table, '-A', chain, ...words.slice(0, at), ...match, ...words.slice(at));
      };
      ensureChain('filter', 'FLANNEL-FWD', 'FORWARD', 'flanneld forward');
      if (this.#options.ipMasq) ensureChain('nat', 'FLANNEL-POSTRTG', 'POSTROUTING', 'flanneld masq');
      await new Promise((resolve) => setTimeout(resolve, 300));
      const forward = (...words: string[]): void => append('filter', 'FLANNEL-FWD', 'flanneld forward', ...words);
      forward('-s', cluster, '-j', 'ACCEPT');
      forward('-d', cluster, '-j', 'ACCEPT');
      if (!this.#options.ipMasq) continue;
      const masquerade = ['-j', 'MASQUERADE', '--random-fully'];
      const leave = ['-j', 'RETURN'];
      const post = (...words: string[]): void => append('nat', 'FLANNEL-POSTRTG', 'flanneld masq', ...words);
      post('-m', 'mark', '--mark', '0x4000/0x4000', ...leave);
      post('-s', subnet, '-d', cluster, ...leave);
      post('-s', cluster, '-d', subnet, ...leave);
      post('!', '-s', cluster, '-d', subnet, ...leave);
      post('-s', cluster, '!', '-d', multicast[family], ...masquerade);
      post('!', '-s', cluster, '-d', cluster, ...masquerade);
    }
  }

  #writeSubnetFile({ networks, backend }: Config, subnets: PerFamily<string>): void {
    // Sic: flannel's figure is 50 for IPv6, too; its IPv6 device has 70 less all the same.
    const mtu = readLink(this.#host.namespace, 'eth0')!.mtu - (backend === 'vxlan' ? overheadBytes[4] : 0);
    const lines = [
      ...(networks[4] ? [`FLANNEL_NETWORK=${networks[4]}`, `FLANNEL_SUBNET=${subnets[4]!.replace('.0/', '.1/')}`] : []),
      ...(networks[6]
        ? [`FLANNEL_IPV6_NETWORK=${networks[6]}`, `FLANNEL_IPV6_SUBNET=${subnets[6]!.replace('::/', '::1/')}`]
        : []),
      `FLANNEL_MTU=${mtu}`,
      `FLANNEL_IPMASQ=${this.#options.ipMasq === true}`,
    ];
    const fresh = `${this.#host.subnetFile}.new`;
    writeFileSync(fresh, `${lines.join('\n')}\n`, { mode: 0o644 });
    renameSync(fresh, this.#host.subnetFile);
  }

  follow(): void {
    const config = this.#config!;
    const leases = this.#list().filter(
      ({ key, backendType }) => key !== this.#own!.key && backendType === config.backend,
    );
    const wanted = new Map(leases.map((lease) => [lease.key, lease]));
    for (const [key, lease] of this.#programmed) {
      if (JSON.stringify(wanted.get(key)) === JSON.stringify(lease)) continue;
      this.#program(config, lease, 'del');
      this.#programmed.delete(key);
    }
    for (const [key, lease] of wanted) {
      if (this.#programmed.has(key)) continue;
      this.#program(config, lease, 'replace');
      this.#programmed.set(key, lease);
    }
  }

  /** Neighbour, forwarding entry, route; the other way round where they go. */
  #program(config: Config, lease: Lease, verb: 'replace' | 'del'): void {
    const { namespace } = this.#host;
    for (const family of families) {
      const subnet = lease.subnets[family];
      const destination = lease.publicAddresses[family];
      if (!subnet || !destination || !config.networks[family]) continue;
      const ip = (...words: string[]): void => void this.#host.ip(`-${family}`, ...words);
      if (config.backend === 'host-gw') {
        ip('route', verb, subnet, 'via', destination, 'dev', 'eth0');
        continue;
      }
      const device = deviceName(family, config.vni);
      const mac = lease.macs[family];
      if (!mac) throw new Error(`flannel finds no MAC for IPv${family} in "${lease.key}"`);
      const endpoint = networkAddress(subnet);
      const permanent = verb === 'replace' ? ['nud', 'permanent'] : [];
      const steps = [
        () => ip('neigh', verb, endpoint, 'lladdr', mac, ...permanent, 'dev', device),
        () => run(['bridge', '-n', namespace, 'fdb', verb, mac, 'dev', device, 'dst', destination, 'self']),
        () => ip('route', verb, subnet, 'via', endpoint, 'dev', device, 'onlink'),
      ];
      for (const step of verb === 'replace' ? steps : steps.reverse()) step();
    }
  }

  async stop(): Promise<void> {
    this.#programmed = new Map();
  }
}

/** The path of flanneld; undefined if there is none to test with. */
export const flanneldPath = process.env['WEFT_TEST_FLANNELD'];

class RealFlanneld implements Flannel {
  readonly #host: Host;
  readonly #options: FlannelOptions;
  readonly #path: string;
  #service: Service | undefined;
  #starts = 0;

  constructor(host: Host, options: FlannelOptions, path: string) {
    this.#host = host;
    this.#options = options;
    this.#path = path;
  }

  async start(): Promise<void> {
    const { scratch, etcd, namespace, folder, subnetFile } = this.#host;
    const logFile = join(folder, `flanneld-${this.#starts++}.log`);
    // Under the name by which weftd finds it, whatever the file's own name is.
    const program = join(folder, 'flanneld');
    if (!existsSync(program)) symlinkSync(this.#path, program);
    const argv = [
      ...[program, '-etcd-endpoints', etcd.endpoint, '-subnet-file', subnetFile],
      ...(this.#options.ipMasq ? ['-ip-masq'] : []),
    ];
    const service = scratch.start(argv, { namespace, logFile });
    this.#service = service;
    await waitFor('flanneld to be ready', () => {
      const log = readFileSync(logFile, 'utf8');
      if (!service.alive) throw new Error(`flanneld has ended:\n${log}`);
      return log.includes('flannel is ready');
    });
  }

  async stop(): Promise<void> {
    await this.#service?.stop('SIGTERM');
  }

  follow(): void {}
}

/** A kind of stand-in for flanneld in the tests. */
export interface Flavour {
  readonly name: string;
  /** Further keys of the network config. */
  readonly config: object;
  /** Whether its rules let packets through where FORWARD's policy is DROP. */
  readonly opensForward: boolean;
  /** Whether it does IPv6 alone. By etcd flanneld does not: its nodes take each other's lease, and make no routes. */
  readonly ipv6Alone: boolean;
  readonly open: (host: Host, options?: FlannelOptions) => Flannel;
}

/** The imitation, and flanneld itself where there is one; says so where there is none. */
export function flavours(subject: string): Flavour[] {
  const imitation: Flavour = {
    name: 'flannel imitated',
    config: {},
    opensForward: true,
    ipv6Alone: true,
    open: (host, options = {}) => new FlannelImitation(host, options),
  };
  const path = flanneldPath;
  if (path === undefined) {
    console.log(`\n  ${subject}: not run with flanneld itself (WEFT_TEST_FLANNELD says where there is one)`);
    return [imitation];
  }
  const open = (host: Host, options: FlannelOptions = {}): Flannel => new RealFlanneld(host, options, path);
  return [
    imitation,
    { name: 'flanneld', config: {}, opensForward: true, ipv6Alone: false, open },
    // An accept in a table of its own is nothing to another's policy.
    { name: 'flanneld with nftables', config: { EnableNFTables: true }, opensForward: false, ipv6Alone: false, open },
  ];
}

/** A host whose containers are attached by what flannel's plugin delegates to, until `plugins` is set to Weft's. */
export class FlannelHost extends Host {
  plugins: 'reference' | 'weft' = 'reference';

  override get conflist(): Conflist {
    if (this.plugins === 'weft') return super.conflist;
    const env = readSubnetEnv(this.subnetFile);
    const subnets = [env['FLANNEL_SUBNET'], env['FLANNEL_IPV6_SUBNET']].filter((subnet) => subnet !== undefined);
    const networks = [env['FLANNEL_NETWORK'], env['FLANNEL_IPV6_NETWORK']].filter((network) => network !== undefined);
    return {
      cniVersion: '1.0.0',
      name: super.conflist.name,
      plugins: [
        {
          type: 'bridge',
          bridge: 'cni0',
          ipMasq: env['FLANNEL_IPMASQ'] !== 'true',
          mtu: Number(env['FLANNEL_MTU']),
          isGateway: true,
          // As in the configuration that flannel is shipped with.
          hairpinMode: true,
          isDefaultGateway: true,
          ipam: {
            type: 'host-local',
            dataDir: this.dataDir,
            ranges: subnets.map((subnet) => [{ subnet: subnet.replace(/\.1\//, '.0/').replace(/::1\//, '::/') }]),
            routes: networks.map((dst) => ({ dst })),
          },
        },
      ],
    };
  }
}
