/** `weftctl status`: this node as weftd sees it, and its containers from reservations and interfaces. */

import type { NodeStatus, PeerStatus } from '../cluster/status.ts';
import { printable } from '../command/printable.ts';
import { type Address, compareAddresses, formatAddress } from '../net/address.ts';
import { defaultPaths } from '../net/paths.ts';
import { type Attachment, openAttachmentReader } from '../reservations/attachments.ts';
import { hostVethName } from '../reservations/host-end.ts';
import { CliError } from './host.ts';
import { formatDocument, type OutputForm, outputForm } from './output.ts';
import { count, formatFacts, formatSpan, formatTable, forScreen, type Style, shortId } from './text.ts';
import type { VerbContext } from './verb.ts';
import { waitUntilReady } from './wait.ts';

/** The number of problems that fit on a screen. */
const shownProblems = 10;

/** One reserved address and its attachment. */
interface ContainerAddress {
  readonly address: Address;
  readonly attachment: Attachment;
}

/** In the order of networks and addresses. An attachment without a reservation has no row. */
const containerAddresses = (attachments: readonly Attachment[]): ContainerAddress[] =>
  attachments
    .flatMap((attachment) => attachment.addresses.map((address) => ({ address, attachment })))
    .sort((a, b) => compareNetworks(a.attachment, b.attachment) || compareAddresses(a.address, b.address));

const compareNetworks = (a: Attachment, b: Attachment): number =>
  a.network === b.network ? 0 : a.network < b.network ? -1 : 1;

function stateText(state: NodeStatus['state'], style: Style): string {
  if (state === 'running') return style.green(state);
  return state === 'degraded' ? style.red(state) : style.yellow(state);
}

function peerState(peer: PeerStatus, style: Style): string {
  if (peer.problem !== undefined) return style.red(peer.problem);
  if (!peer.programmed) return style.yellow('not programmed yet');
  // Routes to a node that is down stay until its lease ends, because perhaps only weftd is down.
  if (peer.alive === false) return style.yellow('down, still routed');
  return peer.alive ? style.green('up') : style.green('routed');
}

function leaseText({ lease }: NodeStatus, nowMs: number): string {
  if (!lease) return 'none yet';
  if (lease.reservation) return 'reserved for this node';
  // Kubernetes' podCIDRs.
  if (lease.expiresAt === undefined) return 'does not expire';
  const leftMs = Date.parse(lease.expiresAt) - nowMs;
  return leftMs > 0 ? `${formatSpan(leftMs)} left; renewed before that` : 'expired';
}

function etcdText({ etcd }: NodeStatus, nowMs: number, style: Style): string {
  const heard =
    etcd.lastContact === undefined ? '' : `, last heard ${formatSpan(nowMs - Date.parse(etcd.lastContact))} ago`;
  const state = etcd.connected ? style.green('connected') : style.red('not connected');
  const { medianMs, worstMs } = etcd;
  const answers =
    !etcd.connected || medianMs === undefined || worstMs === undefined
      ? ''
      : `; answers in ${formatMs(medianMs)}, the slowest recent one in ${formatMs(worstMs)}`;
  return `${etcd.endpoints.join(' ')} ${etcd.prefix}\n${state}${heard}${answers}`;
}

const formatMs = (ms: number): string => (ms < 1000 ? `${Math.ceil(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

function addressesText({ addresses }: NodeStatus): string {
  // An IPv6 subnet has too many addresses to show the number.
  const left = (free: number): string => (free > 1e9 ? '' : `, ${free} free`);
  return addresses.map(({ subnet, used, free }) => `${used} used${left(free)} of ${subnet}`).join('\n') || 'none yet';
}

/** Changes of other programs that weftd repaired. */
function healedText({ changes }: NodeStatus, nowMs: number, style: Style): string {
  const { healed, healedLastHour, lastHeal, failed } = changes;
  const refused = failed === 0 ? '' : style.yellow(`\nthe kernel refused ${count(failed, 'change')}`);
  if (healed === 0 || !lastHeal) return `nothing since the start${refused}`;
  const lately = `${count(healed, 'change')} since the start, ${healedLastHour} in the last hour`;
  const last = `last ${formatSpan(nowMs - Date.parse(lastHeal.at))} ago: ${lastHeal.what}`;
  return `${healedLastHour > 0 ? style.yellow(lately) : lately}\n${last}${refused}`;
}

/** Of dropped packets. */
const shownSenders = 3;

function peerLockText({ peerLock }: NodeStatus, style: Style): string {
  // A weftd from before the peer lock has no such field.
  if (!peerLock?.enabled) return 'off';
  const { droppedPackets, from = [] } = peerLock;
  if (droppedPackets === 0) return 'on';
  const names = from.slice(0, shownSenders).map(({ address, packets }) => `${printable(address)} (${packets})`);
  if (from.length > names.length) names.push(`${from.length - names.length} more`);
  const lately = names.length === 0 ? '' : `\nlately from ${names.join(', ')}`;
  return `on, ${style.yellow(`${count(droppedPackets, 'packet')} from strangers dropped`)}${lately}`;
}

/** Only where it may matter: other programs' rules keep the tunnel's packets in the table of connections. */
function trackingFacts({ tracking }: NodeStatus): [string, string][] {
  if (!tracking?.tunnelIsTracked || tracking.because.length === 0) return [];
  const places = tracking.because.map((place) => `"${place}"`).join(', ');
  return [['Conntrack', `sees the tunnel's packets: rules of ${places} go by the state of connections`]];
}

/** Peers that do not answer. */
const shownSilent = 3;

function pathsFacts({ paths }: NodeStatus, nowMs: number, style: Style): [string, string][] {
  if (!paths) return [];
  if (paths.unavailable !== undefined) return [['Paths', style.yellow(`not known: ${paths.unavailable}`)]];
  if (paths.asked === 0) return [];
  const { asked, silent, list } = paths;
  if (silent === 0) return [['Paths', `${asked === 1 ? 'the peer answers' : `all ${asked} peers answer`}`]];
  const names = list
    .slice(0, shownSilent)
    .map(({ node, address, since }) => `${node ?? address} for ${formatSpan(nowMs - Date.parse(since))}`);
  if (silent > names.length) names.push(`${silent - names.length} more`);
  return [
    ['Paths', `${style.red(`${silent} of ${count(asked, 'peer')} silent`)}: ${names.join(', ')}; weftctl doctor`],
  ];
}

function formatNode(status: NodeStatus, nowMs: number, style: Style): string {
  const orNone = (texts: readonly string[]): string => texts.join(' ') || 'none';
  const up = formatSpan(nowMs - Date.parse(status.startedAt));
  const device = status.devices.length === 0 ? '' : `, ${status.devices.join(' ')}`;
  const facts: [string, string][] = [
    ['Networks', orNone(status.networks)],
    ['Subnets', orNone(status.subnets)],
    ['Lease', leaseText(status, nowMs)],
    ['Public', orNone(status.publicAddresses) + (status.interface === undefined ? '' : ` on ${status.interface}`)],
    ['Backend', `${status.backend || 'not known yet'}${device}`],
    ['Containers', `MTU ${status.mtuBytes ?? 'not known yet'}${status.ipMasq ? ', masqueraded to the outside' : ''}`],
    ['Peer lock', peerLockText(status, style)],
    ...trackingFacts(status),
    ...pathsFacts(status, nowMs, style),
    ['Addresses', addressesText(status)],
    ['Healed', healedText(status, nowMs, style)],
    [status.etcd.kind ?? 'etcd', etcdText(status, nowMs, style)],
  ];
  const title = `${style.bold(status.node)}  ${stateText(status.state, style)}, weftd ${status.version}, up ${up}`;
  const shown = status.problems.slice(0, shownProblems).map((problem) => `  ${style.red(problem)}\n`);
  const hidden = status.problems.length - shown.length;
  if (hidden > 0) shown.push(`  and ${count(hidden, 'problem')} more: weftctl status --json\n`);
  if (status.stuck !== undefined)
    shown.unshift(`  ${style.red(`weftd itself is stuck: ${status.stuck}; restart it`)}\n`);
  const problems = shown.join('');
  return `${title}\n${problems}${formatFacts(facts, style)}`;
}

function formatPeers({ peers, state }: NodeStatus, form: OutputForm, style: Style): string {
  if (peers.length === 0)
    return state === 'starting' ? 'Peers are not known yet.\n' : 'No other node has a subnet yet.\n';
  const rows = peers.map((peer) => [
    peer.node ?? style.dim('(flannel)'),
    peer.subnets.join('\n') || '-',
    peer.publicAddresses.join('\n') || '-',
    peer.path === 'none' ? '-' : peer.path,
    ...(form === 'wide' ? [peer.backend || '-', peer.version ?? '-', peer.health ?? '-'] : []),
    peerState(peer, style),
  ]);
  const further = form === 'wide' ? ['BACKEND', 'VERSION', 'HEALTH'] : [];
  return formatTable(['PEER', 'SUBNET', 'PUBLIC ADDRESS', 'PATH', ...further, 'STATE'], rows, style);
}

function hostEndState({ host }: Attachment, style: Style): string {
  if (host === 'unknown') return style.dim('not known');
  if (host === 'missing') return style.yellow('no interface');
  return host.up ? style.green('up') : style.red('down');
}

function formatContainers(containers: readonly ContainerAddress[], form: OutputForm, style: Style): string {
  if (containers.length === 0) return 'No container has an address here.\n';
  const rows = containers.map(({ address, attachment }) => [
    formatAddress(address),
    printable(form === 'wide' ? attachment.containerId : shortId(attachment.containerId)),
    printable(attachment.ifname) || '-',
    typeof attachment.host === 'object' ? printable(attachment.host.name) : '-',
    printable(attachment.network),
    hostEndState(attachment, style),
  ]);
  return formatTable(['ADDRESS', 'CONTAINER', 'INTERFACE', 'ON THE HOST', 'NETWORK', 'STATE'], rows, style);
}

function containerDocument({ address, attachment }: ContainerAddress): object {
  const { network, containerId, ifname, host } = attachment;
  const end = typeof host === 'object' ? host : undefined;
  return {
    network,
    address: formatAddress(address),
    containerId,
    interface: ifname,
    hostInterface: hostVethName(attachment),
    ...(host === 'unknown' ? {} : { present: end !== undefined, up: end?.up ?? false }),
    ...(end && end.alias !== '' ? { alias: end.alias } : {}),
  };
}

export async function run({ host, options, source, style }: VerbContext): Promise<number> {
  const form = outputForm(options);
  const dataDir = options.text('data-dir') ?? defaultPaths.cniDataDir;
  if (options.flag('wait')) await waitUntilReady(host, source, (options.integer('timeout') ?? 60) * 1000);
  const [answer, sys] = await Promise.all([
    source.status().catch((error: unknown) => {
      // Containers are shown even if weftd does not answer.
      if (error instanceof CliError) return error;
      throw error;
    }),
    host.loadSys(),
  ]);
  const containers = containerAddresses(openAttachmentReader(sys, dataDir).list());
  if (form === 'json' || form === 'yaml') {
    if (answer instanceof CliError) throw answer;
    host.stdout(formatDocument(form, { ...answer, containers: containers.map(containerDocument) })!);
    return 0;
  }
  if (!(answer instanceof CliError)) {
    const nowMs = host.nowMs();
    const shown = forScreen(answer);
    host.stdout(`${formatNode(shown, nowMs, style)}\n${formatPeers(shown, form, style)}\n`);
  }
  if (!(answer instanceof CliError) || containers.length > 0) {
    host.stdout(formatContainers(containers, form, style));
  }
  if (answer instanceof CliError) throw answer;
  return 0;
}
