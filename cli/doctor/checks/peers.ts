/** The ways to the peers: weftd asks each by echo requests, as containers' packets travel. */

import type { PathSurvey, SurveyedPeer } from '../../../cluster/status.ts';
import { tunnelOf } from '../../../linux/netlink/tunnel.ts';
import type { VxlanData } from '../../../linux/netlink/vxlan.ts';
import { CliError } from '../../host.ts';
import { command, type HostCheck, type HostFinding } from '../host-check.ts';
import type { HostView } from '../host-view.ts';
import { allowRaw } from './rules.ts';

const nameOf = ({ node, address, publicAddress }: SurveyedPeer): string =>
  node === undefined ? `the peer at ${publicAddress ?? address}` : `"${node}"`;

/** A path is asked for at most this long; the survey itself takes less than four seconds. */
const costMs = 3000;

/** More findings of one kind tell nobody more. */
const most = 20;

const forPeers = async (
  host: HostView,
  toFinding: (peer: SurveyedPeer, survey: PathSurvey) => HostFinding | undefined,
): Promise<HostFinding[]> => {
  const survey = await host.survey();
  if (!survey) return [];
  return survey.peers.flatMap((peer) => toFinding(peer, survey) ?? []).slice(0, most);
};

/** What the tunnel's packets are, for a firewall's owner. */
function tunnelPackets(host: HostView): string {
  const port = host.links
    .filter(({ kind, name }) => kind === 'vxlan' && name.startsWith('flannel'))
    .map((link) => (tunnelOf(link) as VxlanData).port)[0];
  return port === undefined ? 'the packets of the tunnel' : `UDP port ${port}`;
}

const peerSilent: HostCheck = {
  code: 'peer-silent',
  title: 'a peer does not answer through the tunnel',
  severity: 'error',
  costMs,
  why: "packets to that host's containers are lost, or their answers are: a firewall drops the tunnel's packets, or the host is down",
  remedy: "run `weftctl doctor` on that host, and let firewalls between the hosts pass the tunnel's packets",
  safe: false,
  async find(host) {
    const found = await forPeers(host, (peer) => {
      if (peer.answers) return undefined;
      const why =
        peer.hostAnswers === undefined
          ? ''
          : peer.hostAnswers
            ? `, and its public address ${peer.publicAddress} does: something drops ${tunnelPackets(host)}, or the answers take another way`
            : `, nor does its public address ${peer.publicAddress}: the host is down, or the network is cut`;
      const way = peer.through === 'tunnel' ? 'through the tunnel' : 'through the network';
      return {
        subject: peer.node ?? peer.address,
        facts: { address: peer.address, subnet: peer.subnet },
        what: `${nameOf(peer)} does not answer ${way}${why}`,
      };
    });
    return [...found, ...(await silentElse(host))];
  },
};

/** Peers that weftd has found silent, and that the survey did not ask because there are many. */
async function silentElse(host: HostView): Promise<HostFinding[]> {
  const [status, survey] = [await host.status(), await host.survey()];
  if (status instanceof CliError || !survey || survey.left === 0) return [];
  const asked = new Set(survey.peers.map(({ address }) => address));
  return (status.paths?.list ?? [])
    .filter(({ address }) => !asked.has(address))
    .map(({ node, address, subnet, since }) => ({
      subject: node ?? address,
      facts: { address, subnet },
      sinceMs: Date.parse(since),
      what: `${node === undefined ? `The peer at ${address}` : `"${node}"`} does not answer through the tunnel`,
    }));
}

const peerMtu: HostCheck = {
  code: 'peer-mtu',
  title: 'large packets to a peer are lost',
  severity: 'error',
  costMs,
  why: 'connections open, and hang as soon as they carry data: the network takes smaller packets than this host believes',
  remedy: '`ip link set dev eth0 mtu 1400`, the size that the network takes; weftd and new containers follow',
  safe: false,
  async find(host) {
    const external = await host.external();
    const link = host.links.find(({ name }) => name === external);
    const survey = await host.survey();
    const narrow = (survey?.peers ?? []).filter(({ answers, answersLarge }) => answers && !answersLarge);
    const least = Math.min(...narrow.map(({ largestBytes }) => largestBytes ?? Number.POSITIVE_INFINITY));
    return forPeers(host, (peer, { mtuBytes }) => {
      if (!peer.answers || peer.answersLarge) return undefined;
      const { largestBytes } = peer;
      const takes = largestBytes === undefined ? '' : `, and up to ${largestBytes} bytes arrive`;
      // As much less than now as the path takes less.
      const wanted = link && Number.isFinite(least) ? link.mtuBytes - (mtuBytes - least) : undefined;
      return {
        subject: peer.node ?? peer.address,
        facts: { mtuBytes, ...(largestBytes === undefined ? {} : { largestBytes }) },
        what: `Packets of ${mtuBytes} bytes to ${nameOf(peer)} are lost${takes}`,
        ...(wanted !== undefined && link
          ? { command: command('ip', 'link', 'set', 'dev', link.name, 'mtu', String(wanted)) }
          : {}),
      };
    });
  },
};

const peerAsymmetric: HostCheck = {
  code: 'peer-asymmetric',
  title: "a peer's answers come by another way than the tunnel",
  severity: 'warning',
  costMs,
  why: 'firewalls, the peer lock and a strict rp_filter drop such packets, and nothing checks that they are of the cluster',
  remedy: "look for a route to this host's subnet on that host: `ip route get ADDRESS`",
  safe: false,
  find: (host) =>
    forPeers(host, (peer) =>
      peer.returnsElsewhere
        ? {
            subject: peer.node ?? peer.address,
            facts: { address: peer.address },
            what: `The answers of ${nameOf(peer)} do not come in by the tunnel`,
          }
        : undefined,
    ),
};

const probeRights: HostCheck = {
  code: 'probe-rights',
  title: 'weftd may not ask the peers',
  severity: 'warning',
  costMs: 10,
  why: 'weftd cannot tell that a firewall drops the packets to other hosts: they count as up',
  remedy:
    'add CAP_NET_RAW to CapabilityBoundingSet of weftd.service, by a drop-in, or `sysctl -w net.ipv4.ping_group_range="0 0"`',
  safe: false,
  async find(host) {
    const survey = await host.survey();
    if (survey?.unavailable === undefined || !/CAP_NET_RAW/.test(survey.unavailable)) return [];
    return [{ subject: 'weftd', facts: {}, what: survey.unavailable, command: allowRaw }];
  },
};

export const peerChecks: readonly HostCheck[] = [peerSilent, peerMtu, peerAsymmetric, probeRights];
