/**
 * The conformance table: what a conforming plugin shows, one row a line. Tests are named by number and text, so that
 * a failing one says what it holds the plugins to.
 */

import { suite } from 'uvu';
import { inGuest as runsInGuest } from '../lab/guest.ts';
import { pluginHost } from '../lab/plugin.ts';
import { readRecords, record } from '../support/record.ts';
import { forgetVersions, recordAs, versionsAsked } from '../support/recorded-calls.ts';
import { useVersion, usualVersion, type Version, versions } from '../support/versions.ts';

export const rows: Readonly<Record<number, string>> = {
  1: 'No CNI_COMMAND → about + versions on stderr, rc 0',
  2: 'VERSION with garbage stdin → the 7 versions, rc 0',
  3: 'Unknown command, valid conf → 4',
  4: 'Unknown command, empty stdin → 6',
  5: 'ADD with several variables missing → 4, all names in one message',
  6: 'DEL without CNI_NETNS → ok',
  7: 'CHECK without CNI_NETNS → 4',
  8: 'GC without ID/NETNS/IFNAME → ok',
  9: 'GC/STATUS without CNI_PATH → 4',
  10: 'Container id %%, -a, a\\n → 4',
  11: 'Interface name of 16 characters → 4',
  12: 'Interface name . or .. → 4',
  13: 'Interface name with /, : or a space → 4',
  14: 'stdin read error → 5',
  15: 'Empty or broken JSON → 6',
  16: 'Name missing → 7',
  17: 'Name a b → 7',
  18: 'Numeric name or cniVersion → 6',
  19: 'cniVersion absent or "" → 0.1.0',
  20: '9.9.9, 1.0, 0.4.1 → 1 with details',
  21: 'CHECK below 0.4.0 → 1',
  22: 'CHECK at 1.2.0 → 1',
  23: 'CHECK with version asdf → 6',
  24: 'GC/STATUS below 1.1.0 → 1',
  25: "A delegate's typed error passes unchanged",
  26: "CNI_NETNS is the plugin's own netns → 8, before anything is created or reserved",
  27: 'CNI_NETNS_OVERRIDE=TRUE or 1 → allowed',
  28: 'Result shapes right for all 7 versions',
  29: "prevResult lacking a version → the configuration's",
  30: 'prevResult of another version family → E',
  31: 'Unknown keys and capabilities ignored',
  32: 'Unknown CNI_ARGS → E',
  33: 'The same with IgnoreUnknown=1 → ok',
  34: 'FOO or a trailing ; in CNI_ARGS → E',
  35: 'CNI_ARGS keys are case-sensitive',
  36: 'JSON keys are not',
  37: '/24 → .2, gateway .1',
  38: 'v6 /64 → ::2, gateway ::1',
  39: '/30 gives one IP, then "no IP addresses available in range set"',
  40: '/31, /32, /127 → E too small',
  41: 'Host bits set in subnet → E',
  42: 'rangeStart/rangeEnd outside, or start > end → E',
  43: 'Bad CIDR or gateway → E',
  44: 'No ipam key, no ranges, [[]], flat ranges → E',
  45: 'Mixed families in a set → E',
  46: 'Overlap within a set → E',
  47: 'Overlap across sets → E naming both',
  48: 'Two v4 sets at 0.2.0 → E',
  49: 'v4 + v6 at 0.2.0 → ok',
  50: 'subnet + ranges → subnet first',
  51: 'ipRanges come before both',
  52: 'Gateway .5 → first IP .1',
  53: 'Next IP = last + 1, also after a release',
  54: "Wraps around; rolls to the set's next range",
  55: 'Stale last IP → start of range',
  56: 'Full except the last → the last',
  57: 'Broadcast not given by default',
  58: 'Repeat of ID + ifname → duplicate error',
  59: 'Second ifname of a container is independent',
  60: 'Requested IP through all three channels',
  61: 'Unused requested IP → "failed to allocate all requested IPs", rolled back',
  62: 'Requested gateway or taken IP → E',
  63: 'Failure in a later set frees the earlier sets',
  64: 'resolvConf parsed; missing file → E',
  65: 'Route extras preserved',
  66: 'DEL of unknown, twice, or without netns → 0',
  67: 'DEL frees every IP of the attachment',
  68: 'Legacy record holding only the ID is freed',
  69: 'CHECK with / without a reservation → 0 / E',
  70: 'Existing bridge reused, same ifindex',
  71: 'The name is not a bridge → E',
  72: 'interfaces = [bridge, host veth, IFNAME + sandbox]; ips.interface = 2 (vlan + gateway: a fourth, see 109)',
  73: 'Default route per family, gateway on the bridge',
  74: "IPAM's default route not duplicated",
  75: 'Bridge already has another v4 address → E',
  76: 'forceAddress replaces it',
  77: 'Disjoint v6 coexists (newest first); an overlapping v6 gateway → E, replaced with forceAddress',
  78: 'Bridge MAC stable as ports come and go',
  79: 'MAC precedence',
  80: 'Bad MAC → E',
  81: 'vlan 5000 → E',
  82: 'Trunk: half a range, out of range, min > max → E',
  83: 'vlan removes the default VID; trunk keeps native 1 unless vlan is given too (then native is that)',
  84: 'hairpin + promisc → E',
  85: 'IPAM + disableContainerInterface → E',
  86: "Without IPAM (L2): ADD ok, CHECK ok (the reference's always fails); at 0.2.0 → E",
  87: 'disableContainerInterface leaves the link down; portIsolation sets the flag',
  88: 'IFNAME exists → E, the earlier IP kept',
  89: 'Netns missing on ADD → E, no IP taken',
  90: 'A failure at any later step frees the IP, the veth and the rules',
  91: 'Masquerade rules appear, and go with DEL; unknown backend → E',
  92: 'macspoofchk rules set and removed',
  93: 'DEL repeated, netns gone or path not a netns → 0',
  94: 'CHECK ok; E on missing prevResult, route, address, wrong sandbox',
  95: 'STATUS with the IPAM binary missing → 50',
  96: "conf dns overrides IPAM's",
  97: "The host veth's name starts with veth; exactly lo, bridge and veth are in the host's namespace after ADD: no helper devices",
  98: 'The bridge and its gateway address stay after DEL',
  99: 'sandbox is CNI_NETNS verbatim; all three MACs are set; nothing but JSON\'s own punctuation before a colon ("ips":, not "ips" :)',
  100: "When ADD returns, the container's link is operationally UP (its port forwards), with exactly the given addresses plus its IPv6 link-local",
  101: 'disableContainerInterface: not UP, and no IPv6 address at all',
  102: 'L2: the bridge is up and has its link-local address',
  103: 'The default route has no preferred source',
  104: "The bridge's MAC is the one it had before its first port; never rewritten, and not the host veth's; the result shows the final value",
  105: '"ipam": {} is L2; RuntimeConfig in capitals is runtimeConfig',
  106: 'isolated, hairpin and promiscuous are asserted off as well as on',
  107: 'vlan_filtering is on for vlan or vlanTrunk (an empty list counts), else off, and set only when the bridge is made',
  108: 'A port with vlan carries exactly that one VLAN; one trunk element may hold both an id and a range',
  109: 'vlan + gateway: the gateway address sits on a veth whose host end is <bridge>.<vid>, its peer a tagged port; it is the fourth interface of the result',
  110: "The container's namespace equal to the plugin's own, with the override, works whole",
  111: "Masquerade by iptables shows the pod's address in iptables -t nat POSTROUTING; by nftables: table inet cni_plugins_masquerade, chain masq_checks, the rule's comment naming the attachment",
  112: "The iptables chain is CNI- + sha512(name + id), 28 characters in all; multicast and the pod's own subnet are exempt; DEL cleans both back ends whichever is configured",
  113: 'macspoofchk: table nat of family bridge, chain PREROUTING (filter, −300), chains cni-br-iface-<id>-<if> and the same + -mac, comment macspoofchk-<id>-<if>',
  114: 'CHECK comes with routes: null, dns: {}, without isDefaultGateway: judge by prevResult. DEL at 1.x may come without prevResult',
  115: 'Sysctls: accept_ra 0 on bridge and host veth; in the container arp_notify 1, accept_ra 0, accept_dad 0 (1 with enabledad), keep_addr_on_down 1 with IPv6; forwarding per gateway family',
  116: 'last_reserved_ip.N holds the bare address without newline, and outlives releases',
  117: "Requested addresses may carry a prefix length; the sources add up (CNI_ARGS, then args.cni, then runtimeConfig); one may lie in a later range of the set and gets that range's gateway",
  118: 'Overlap is judged by the ranges handed out from: one subnet split in two is fine; families never overlap',
  119: 'resolv.conf: ; and # comments, indentation; search and options add up over lines',
  120: 'ptp, tap, macvlan call weft-ipam as they call host-local; their STATUS comes with hardly any environment',
  121: "Both plugins know IP and MAC in CNI_ARGS (the reference's pair refuses MAC= alone)",
  122: "flannel's plugin and containerd's library may send no cniVersion, dual stack, in chains",
};

/** Rows that ask for what most test machines' kernels lack: tested in the guest. */
export const inGuest: Readonly<Record<number, string>> = {
  83: 'bridges that filter by VLAN',
  107: 'bridges that filter by VLAN',
  108: 'bridges that filter by VLAN',
  109: 'bridges that filter by VLAN',
};

/** Rows that are not about every version, and why: there, a version without the row is not a gap. */
export interface Limit {
  readonly why: string;
  readonly at: readonly Version[];
  readonly rows: readonly number[];
}

const from = (first: Version): Version[] => versions.filter((version) => version >= first);
const below = (first: Version): Version[] => versions.filter((version) => version < first);

export const limits: readonly Limit[] = [
  { why: 'no configuration that could be read is there', at: [], rows: [1, 4, 14, 15] },
  { why: 'the version is none of the seven', at: [], rows: [20, 22, 23] },
  { why: 'no cniVersion is there, which means 0.1.0', at: ['0.1.0'], rows: [19, 122] },
  { why: 'about what 0.1.0 and 0.2.0 cannot say', at: below('0.3.0'), rows: [48, 49] },
  { why: 'CHECK refused: below 0.4.0', at: below('0.4.0'), rows: [21] },
  { why: 'GC and STATUS refused: below 1.1.0', at: below('1.1.0'), rows: [24] },
  { why: 'GC and STATUS: from 1.1.0', at: from('1.1.0'), rows: [8, 9, 95] },
  { why: 'CHECK: from 0.4.0', at: from('0.4.0'), rows: [7, 29, 30, 69, 94, 114] },
  { why: 'results list interfaces: from 0.3.0', at: from('0.3.0'), rows: [72, 99] },
  { why: 'results without an address: from 0.3.0', at: from('0.3.0'), rows: [87, 101, 102, 105] },
  {
    why: 'several addresses of a family: from 0.3.0',
    at: from('0.3.0'),
    rows: [47, 50, 51, 63, 67, 117, 118],
  },
];

/** The versions that a row is about. */
export const versionsOf = (row: number): readonly Version[] =>
  limits.find(({ rows: limited }) => limited.includes(row))?.at ?? versions;

/**
 * Rows whose answer depends on the version, and why. They are run at every version; the others at one version of each
 * shape of result, unless all are asked for: `npm test -- conformance --all`.
 */
export const dependent: readonly { readonly why: string; readonly rows: readonly number[] }[] = [
  { why: 'the answer names the version', rows: [2, 25] },
  { why: 'a command exists from a version on', rows: [7, 8, 9, 21, 24, 95] },
  { why: 'the result differs by version', rows: [28, 48, 49, 64, 65, 72, 86, 96, 99] },
  { why: 'prevResult differs by version', rows: [29, 30, 94, 114] },
];
const dependentRows = new Set(dependent.flatMap((group) => group.rows));

/** A row that was tested, or that a row passed or failed at a version. */
type Entry = { readonly covered: number } | { readonly cell: string; readonly passed: boolean };

/** The rows that this run's processes have a test of. */
export const coveredRows = (): ReadonlySet<number> =>
  new Set((readRecords('native') as Entry[]).flatMap((entry) => ('covered' in entry ? [entry.covered] : [])));

let cells: Map<string, boolean> | undefined;

/**
 * Whether a row passed at a version, by calls that asked for that version; undefined where there was no such call.
 * A row that is about no version has one cell.
 */
export function cell(row: number, at: Version | 'none'): boolean | undefined {
  if (!cells) {
    cells = new Map();
    for (const entry of readRecords('native') as Entry[]) {
      if ('cell' in entry) cells.set(entry.cell, entry.passed && (cells.get(entry.cell) ?? true));
    }
  }
  return cells.get(`${row} ${at}`);
}

const cleaners: (() => void)[] = [];
/** Has this called whenever a row was run at one version. */
export function afterEachVersion(clean: () => void): void {
  cleaners.push(clean);
}

type Body = () => void | Promise<void>;

async function runAt(row: number, version: Version, body: Body): Promise<void> {
  const ofNone = versionsOf(row).length === 0;
  const key = `${row} ${ofNone ? 'none' : version}`;
  forgetVersions();
  useVersion(version);
  try {
    await body();
    if (ofNone || versionsAsked().has(version)) record({ cell: key, passed: true });
  } catch (error) {
    record({ cell: key, passed: false });
    if (error instanceof Error) error.message = `at ${version}: ${error.message}`;
    throw error;
  } finally {
    useVersion(usualVersion);
    for (const clean of cleaners) clean();
  }
}

/** One version of each shape that results have. */
export const shapes: readonly Version[] = ['0.2.0', '0.4.0', '1.1.0'];

const allVersions = process.env['WEFT_TEST_VERSIONS'] === 'all';

/**
 * The versions at which a row is run here: all that it is about, where it depends on them or all are asked for; else by
 * shape. Under Bun by shape; one in the guest, which is slow.
 */
export function versionsHere(row: number): readonly Version[] {
  const at = versionsOf(row);
  const last = at.at(-1) ?? usualVersion;
  if (at.length === 0) return [last];
  if (runsInGuest) return [at.includes(usualVersion) ? usualVersion : last];
  if (pluginHost === 'native' && (allVersions || dependentRows.has(row))) return at;
  const some = at.filter((version) => shapes.includes(version));
  return some.length > 0 ? some : [last];
}

export interface Conformance {
  readonly before: ReturnType<typeof suite>['before'];
  readonly after: ReturnType<typeof suite>['after'];
  /**
   * A test of one row of the table. Its body is run once for each version that the row is about.
   * @param aspect of the row, where it has several tests
   */
  row(number: number, body: Body, aspect?: string): void;
  /** A test of what no row says. */
  test(name: string, body: Body): void;
  run(): void;
}

export function conformance(name: string): Conformance {
  const tests = suite(name);
  const test = (title: string, body: Body): void => {
    tests(title, async () => {
      recordAs(title);
      await body();
    });
  };
  return {
    before: tests.before,
    after: tests.after,
    row(number, body, aspect) {
      if (!rows[number]) throw new Error(`There is no row ${number}`);
      record({ covered: number });
      const title = `row ${number}: ${rows[number]}${aspect ? `: ${aspect}` : ''}`;
      tests(title, async () => {
        for (const version of versionsHere(number)) {
          recordAs(`${title} at ${version}`);
          await runAt(number, version, body);
        }
      });
    },
    test,
    run: () => tests.run(),
  };
}
