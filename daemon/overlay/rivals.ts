/**
 * Leases of others that want the same as this node's: a part of its subnet, or its device's MAC. Every host follows the older of
 * two leases, and both of their nodes tell. Pure.
 */

import { isDeepStrictEqual } from 'node:util';
import { excerpt } from '../../cluster/excerpt.ts';
import { compareSeniority, type Lease } from '../../cluster/lease.ts';
import { families, type PerFamily } from '../../cluster/network-config.ts';
import { peerAddressProblem } from '../../cluster/peer-address.ts';
import { type Prefix, prefixContains, prefixesOverlap } from '../../net/prefix.ts';
import { formatAddresses } from '../membership/view.ts';

/** By its lease's age, compared with ours. */
export type Rival = 'older' | 'younger';

/** This node's lease, as far as another can want the same. */
export interface Claimed {
  /** Families in use, with the cluster's network of each. */
  readonly networks: PerFamily<Prefix>;
  readonly subnets: PerFamily<Prefix>;
  /** The backend's. */
  readonly leaseData: PerFamily<unknown>;
  readonly age: Pick<Lease, 'seniority' | 'ownerId'>;
}

/**
 * Leases that no host accepts at all are no rivals.
 * @param isUnique whether no two hosts may have the same data of the backend
 */
export function rivalOf(peer: Lease, own: Claimed, isUnique: boolean): Rival | undefined {
  const wantsOurs = families.some((family) => {
    const [network, subnet] = [own.networks[family], own.subnets[family]];
    const [leased, host, data] = [peer.subnets[family], peer.publicAddresses[family], peer.backendData[family]];
    if (!network || !subnet || !leased || !host || peerAddressProblem(host, []) !== undefined) return false;
    if (leased.length <= network.length || !prefixContains(network, leased.address)) return false;
    const isSame = isUnique && data !== undefined && isDeepStrictEqual(data, own.leaseData[family]);
    return isSame || prefixesOverlap(leased, subnet);
  });
  if (!wantsOurs) return undefined;
  return compareSeniority(peer, own.age) < 0 ? 'older' : 'younger';
}

const problems: Readonly<Record<Rival, (theirs: string, ours: string) => string>> = {
  older: (theirs, ours) =>
    `The older ${theirs} wants the same as this node's ${ours}, and other hosts follow the older one; delete it if no node needs it, or else stop weftd here, delete this node's, and start weftd again`,
  younger: (theirs, ours) =>
    `The younger ${theirs} wants the same as this node's ${ours}, and other hosts refuse it; delete it`,
};

/** The problems with rivals of that age, by lease. */
export const rivalProblems = (
  peers: readonly { readonly peer: Lease; readonly rival?: Rival }[],
  age: Rival,
  own: Lease,
): Map<string, string> =>
  new Map(
    peers
      .filter(({ rival }) => rival === age)
      .map(({ peer: { ownerId, node, publicAddresses } }) => {
        const who = `${node === undefined ? 'the host' : `"${excerpt(node)}"`} at ${formatAddresses(publicAddresses)}`;
        const theirs = `lease "${excerpt(ownerId)}" of ${who}`;
        return [ownerId, problems[age](theirs, `lease "${excerpt(own.ownerId)}"`)];
      }),
  );
