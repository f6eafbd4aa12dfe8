/** What the packet filter's rules, of any program, do to the cluster's packets. */

import type { PerFamily } from '../../../cluster/network-config.ts';
import { isTunnelName } from '../../../daemon/backends/map.ts';
import { type ForwardChain, isIptables, listForwardChains } from '../../../daemon/filter/foreign-forward.ts';
import { forwardSettings } from '../../../daemon/filter/forward.ts';
import { LegacyIptables } from '../../../daemon/filter/legacy-iptables.ts';
import { readRule } from '../../../daemon/filter/nft-walk.ts';
import { findHindrance, type SamplePacket, type WalkRule } from '../../../daemon/filter/packet-walk.ts';
import { tunnelOf } from '../../../linux/netlink/tunnel.ts';
import type { VxlanData } from '../../../linux/netlink/vxlan.ts';
import { isNftMissing, type NftConnection, withNft } from '../../../linux/nft/connection.ts';
import type { NftFamily, NftRule } from '../../../linux/nft/table.ts';
import { type Family, parseAddress } from '../../../net/address.ts';
import { formatPrefix, hostPrefix, type Prefix } from '../../../net/prefix.ts';
import { CliError } from '../../host.ts';
import { all, command, type HostCheck, type HostFinding } from '../host-check.ts';
import type { HostView } from '../host-view.ts';
import { restart } from './service.ts';

const packetFamily: Partial<Record<NftFamily, Family>> = { ip: 4, ip6: 6 };

/** nf_tables is missing on old kernels: then it has no rules. */
function withRules<T>(host: HostView, nothing: T, body: (nft: NftConnection) => T): T {
  try {
    return withNft(host.sys, body);
  } catch (error) {
    if (isNftMissing(error)) return nothing;
    throw error;
  }
}

/** The rule as one that accepts or leads on, whatever of its conditions is not understood: a port range, a set of ranges. */
const trusting = (rule: WalkRule): WalkRule =>
  rule.verdict.kind === 'accept' || 'chain' in rule.verdict
    ? { ...rule, conditions: rule.conditions.filter(({ kind }) => kind !== 'special' && kind !== 'some state') }
    : rule;

/**
 * Walks a base chain: whether it drops any of the packets.
 * @param trusts rules that are not wholly understood count as meant for the packets
 */
function drops(
  nft: NftConnection,
  { table, chain }: ForwardChain,
  packets: readonly SamplePacket[],
  trusts = false,
): boolean {
  const family = packetFamily[table.family];
  const own = packets.filter((packet) => family === undefined || packet.family === family);
  const chains = new Map<string, readonly WalkRule[]>();
  // Sets tell which ports and protocols a rule is about.
  const read = (rules: readonly NftRule[]): WalkRule[] =>
    rules
      .map((rule) => readRule(rule, family, (set) => nft.listKeys(table, set)))
      .map((rule) => (trusts ? trusting(rule) : rule));
  const named = (name: string): readonly WalkRule[] => {
    const known = chains.get(name) ?? (nft.hasChain(table, name) ? read(nft.listRules(table, name)) : []);
    chains.set(name, known);
    return known;
  };
  const rules = read(nft.listRules(table, chain.name));
  return findHindrance(rules, chain.base!.policy, own, named) !== undefined;
}

/** Commands that make the chain's owner accept packets. */
interface Accepting {
  /** Conditions in the words of iptables, of nft for a family, and the whole commands of firewalld and ufw. */
  readonly iptables: readonly (readonly string[])[];
  readonly nft: readonly (readonly string[])[];
  readonly firewalld: readonly string[];
  readonly ufw: readonly (readonly string[])[];
}

const isUfw = (rules: readonly NftRule[]): boolean =>
  rules.some(({ expressions }) =>
    expressions.some((each) => each.type === 'verdict' && (each.chain ?? '').startsWith('ufw-')),
  );

function acceptCommand(
  host: HostView,
  place: { readonly table: ForwardChain['table']; readonly chain: string; readonly rules: readonly NftRule[] },
  { iptables, nft, firewalld, ufw }: Accepting,
): string {
  const { table, chain, rules } = place;
  if (table.name === 'firewalld')
    return all(command('firewall-cmd', '--permanent', ...firewalld), 'firewall-cmd --reload');
  if (table.name === 'filter' && (table.family === 'ip' || table.family === 'ip6') && /^[A-Z]+$/.test(chain)) {
    if (isUfw(rules) && host.findProgram('ufw') !== undefined)
      return all(...ufw.map((words) => command('ufw', ...words)));
    const usual = table.family === 'ip' ? 'iptables' : 'ip6tables';
    // "iptables" may be the older one, which does not see this table.
    const program = host.findProgram(`${usual}-nft`) === undefined ? usual : `${usual}-nft`;
    return all(...iptables.map((words) => command(program, '-I', chain, ...words, '-j', 'ACCEPT')));
  }
  return all(
    ...nft.map((words) => command('nft', 'insert', 'rule', table.family, table.name, chain, ...words, 'accept')),
  );
}

const perFamily = (prefixes: readonly Prefix[]): PerFamily<Prefix> =>
  Object.fromEntries(prefixes.map((prefix) => [prefix.address.family, prefix]));

async function clusterPackets(host: HostView) {
  const external = await host.external();
  const tunnels = host.links.map(({ name }) => name).filter(isTunnelName);
  const networks = perFamily(host.networks);
  // As weftd does: the cluster's packets come and go by tunnels, or by the external interface.
  return forwardSettings(
    { networks, subnets: [perFamily(host.subnets)] },
    {
      peers: [...tunnels, ...(external === undefined ? [] : [external])],
      external: external ?? ' ',
      containers: host.containerLinks(),
    },
  );
}

const clusterAccepts = (prefixes: readonly Prefix[]): Accepting => {
  const words = prefixes.map((prefix) => ({
    text: formatPrefix(prefix),
    ip: prefix.address.family === 4 ? 'ip' : 'ip6',
  }));
  return {
    iptables: words.flatMap(({ text }) => [
      ['-s', text],
      ['-d', text],
    ]),
    nft: words.flatMap(({ text, ip }) => [
      [ip, 'saddr', text],
      [ip, 'daddr', text],
    ]),
    firewalld: ['--zone=trusted', ...words.map(({ text }) => `--add-source=${text}`)],
    ufw: words.flatMap(({ text }) => [
      ['route', 'allow', 'from', text],
      ['route', 'allow', 'to', text],
    ]),
  };
};

const ofFamily = (prefixes: readonly Prefix[], family: Family | undefined): Prefix[] =>
  prefixes.filter(({ address }) => family === undefined || address.family === family);

const forwardDrop: HostCheck = {
  code: 'forward-drop',
  title: "another program's rules drop the cluster's packets",
  severity: 'error',
  costMs: 20,
  why: 'packets between containers of different hosts, or to the outside, are lost; Docker, firewalld and ufw have such rules',
  remedy: '`iptables -I FORWARD -s 10.244.0.0/16 -j ACCEPT && iptables -I FORWARD -d 10.244.0.0/16 -j ACCEPT`',
  safe: false,
  async find(host) {
    const { packets, accepted } = await clusterPackets(host);
    if (packets.length === 0) return [];
    const found = withRules(host, [], (nft) =>
      listForwardChains(nft).flatMap((place): HostFinding | readonly never[] => {
        if (!drops(nft, place, packets)) return [];
        const { table, chain } = place;
        const name = `${table.family} ${table.name} ${chain.name}`;
        const rules = isIptables(place) ? nft.listRules(table, chain.name) : [];
        const prefixes = ofFamily(accepted, packetFamily[table.family]);
        return {
          subject: name,
          facts: {},
          what: `The chain "${name}" drops packets of the cluster`,
          command: acceptCommand(host, { table, chain: chain.name, rules }, clusterAccepts(prefixes)),
        };
      }),
    );
    return [...found, ...legacyDrops(host, packets, accepted)];
  },
};

/** The same in the tables of the older iptables. */
function legacyDrops(host: HostView, packets: readonly SamplePacket[], accepted: readonly Prefix[]): HostFinding[] {
  const legacy = new LegacyIptables(host.sys);
  return familiesOf(accepted).flatMap((family): HostFinding | readonly never[] => {
    const table = legacy.listed(family);
    const program = family === 4 ? 'iptables-legacy' : 'ip6tables-legacy';
    const subject = `${program} filter FORWARD`;
    if (table === 'unknown') {
      return {
        subject,
        facts: {},
        what: `The rules of "${program}" cannot be read, and may drop packets of the cluster`,
      };
    }
    if (table === undefined) return [];
    const rules = (name: string): WalkRule[] => (table.chains.get(name) ?? []).map((each) => each.rule);
    const own = packets.filter((packet) => packet.family === family);
    if (!findHindrance(rules('FORWARD'), table.policy, own, rules)) return [];
    const words = clusterAccepts(ofFamily(accepted, family)).iptables;
    return {
      subject,
      facts: {},
      what: `The chain "${subject}" drops packets of the cluster`,
      command: all(...words.map((each) => command(program, '-I', 'FORWARD', ...each, '-j', 'ACCEPT'))),
    };
  });
}

const familiesOf = (prefixes: readonly Prefix[]): Family[] => [
  ...new Set(prefixes.map(({ address }) => address.family)),
];

const masquerade: HostCheck = {
  code: 'masquerade',
  title: 'packets to the outside are not masqueraded',
  severity: 'error',
  costMs: 5,
  why: 'containers reach other containers, but nothing outside the cluster: no answer finds the way back',
  remedy: '`systemctl restart weftd`',
  safe: false,
  find(host) {
    const node = host.node();
    if (!node?.ipMasq) return [];
    const isThere = withRules(host, false, (nft) =>
      nft
        .listChains('inet')
        .some(({ table, chain }) => /^weft(?![A-Za-z0-9_])/.test(table.name) && chain.base?.hook === 'postrouting'),
    );
    if (isThere) return [];
    const what = 'The table "inet weft" has no chain that masquerades, and subnet.env says FLANNEL_IPMASQ=true';
    return [{ subject: 'inet weft', facts: {}, what, command: restart }];
  },
};

/** include/uapi/linux/capability.h */
const CAP_NET_RAW = 13;
const dropIn = '/etc/systemd/system/weftd.service.d';

/** Gives weftd's service the right for raw sockets. */
export const allowRaw: string = all(
  command('mkdir', '-p', dropIn),
  `printf '[Service]\\nCapabilityBoundingSet=CAP_NET_RAW\\n' > ${dropIn}/raw.conf`,
  'systemctl daemon-reload',
  restart,
);

const legacyRights: HostCheck = {
  code: 'legacy-rights',
  title: 'weftd lacks the right to read the rules of the older iptables',
  severity: 'warning',
  costMs: 5,
  why: "weftd cannot see whether these rules drop the cluster's packets, nor accept them there",
  remedy: 'add CAP_NET_RAW to CapabilityBoundingSet of weftd.service, by a drop-in',
  safe: false,
  async find(host) {
    const status = await host.status();
    if (status instanceof CliError || new LegacyIptables(host.sys).presence !== 'here') return [];
    const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(host.text(`/proc/${status.pid}/status`) ?? '')?.[1];
    if (effective === undefined || (BigInt(`0x${effective}`) >> BigInt(CAP_NET_RAW)) & 1n) return [];
    const what = 'This host has rules of the older iptables, and weftd runs without CAP_NET_RAW';
    return [{ subject: 'weftd', facts: {}, what, command: allowRaw }];
  },
};

/** Peers whose packets are tried: rules may name each. */
const mostPeers = 20;

const tunnelPort: HostCheck = {
  code: 'tunnel-port',
  title: "this host's rules drop the tunnel's packets",
  severity: 'error',
  costMs: 20,
  why: 'other hosts count as up, and no packet of theirs arrives',
  remedy: '`iptables -I INPUT -p udp --dport 8472 -j ACCEPT`',
  safe: false,
  async find(host) {
    const status = await host.status();
    const external = await host.external();
    if (status instanceof CliError || external === undefined) return [];
    const sources = status.peers
      .flatMap(({ publicAddresses }) => publicAddresses.flatMap((text) => parseAddress(text) ?? []))
      .slice(0, mostPeers);
    const ports = new Set(
      host.links
        .filter(({ name, kind }) => kind === 'vxlan' && status.devices.includes(name))
        .map((link) => (tunnelOf(link) as VxlanData).port),
    );
    return withRules(host, [], (nft) =>
      inputChains(nft).flatMap((place) =>
        [...ports].flatMap((port): HostFinding | readonly never[] => {
          const packet = (state: 'new' | 'untracked') => (source: (typeof sources)[number]) => ({
            family: source.family,
            source: hostPrefix(source),
            destination: undefined,
            input: external,
            output: ' ',
            state,
            protocol: 17,
            port,
          });
          // weftd takes them out of connection tracking where no rule depends on that.
          const isDropped = (['new', 'untracked'] as const).every((state) =>
            drops(nft, place, sources.map(packet(state)), true),
          );
          if (sources.length === 0 || !isDropped) return [];
          const { table, chain } = place;
          const name = `${table.family} ${table.name} ${chain.name}`;
          const text = String(port);
          return {
            subject: name,
            facts: { port },
            what: `The chain "${name}" drops the tunnel's packets to UDP port ${port}`,
            command: acceptCommand(
              host,
              { table, chain: chain.name, rules: nft.listRules(table, chain.name) },
              {
                iptables: [['-p', 'udp', '--dport', text]],
                nft: [['udp', 'dport', text]],
                firewalld: [`--add-port=${text}/udp`],
                ufw: [['allow', `${text}/udp`]],
              },
            ),
          };
        }),
      ),
    );
  },
};

const inputChains = (nft: NftConnection): ForwardChain[] =>
  (['ip', 'ip6', 'inet'] as const)
    .flatMap((family) => nft.listChains(family))
    .filter(
      ({ table, chain }) =>
        chain.base?.hook === 'input' &&
        chain.base.type === 'filter' &&
        !(table.family === 'inet' && /^weft(?![A-Za-z0-9_-])/.test(table.name)),
    );

/** Chains that only these programs make. */
const foreignChains: readonly (readonly [RegExp, string])[] = [
  [/^cali-/, 'Calico'],
  [/^CILIUM_/, 'Cilium'],
  [/^WEAVE/, 'Weave'],
  [/^KUBE-ROUTER-/, 'kube-router'],
];

const leftoverRules: HostCheck = {
  code: 'leftover-rules',
  title: 'another network program has left rules',
  severity: 'warning',
  costMs: 10,
  why: "its rules can drop or translate Weft's packets, and nobody keeps them any more",
  remedy: '`iptables-save | grep -v cali- | iptables-restore`',
  safe: false,
  find: (host) =>
    withRules(host, [], (nft) => {
      const found = new Map<string, HostFinding>();
      for (const { table, chain } of [...nft.listChains('ip'), ...nft.listChains('ip6')]) {
        const known = foreignChains.find(([pattern]) => pattern.test(chain.name));
        const key = `${table.family} ${known?.[1]}`;
        if (!known || found.has(key)) continue;
        const usual = table.family === 'ip' ? 'iptables' : 'ip6tables';
        const program = host.findProgram(`${usual}-nft-save`) === undefined ? usual : `${usual}-nft`;
        const mark = known[0].source.slice(1);
        found.set(key, {
          subject: `${usual} ${mark}`,
          facts: { owner: known[1] },
          what: `${usual} has chains of ${known[1]}, such as "${chain.name}"`,
          command: `${program}-save | grep -v ${mark} | ${program}-restore`,
        });
      }
      return [...found.values()];
    }),
};

export const ruleChecks: readonly HostCheck[] = [forwardDrop, masquerade, legacyRights, tunnelPort, leftoverRules];
