/** Peers as the status and the problems show them. */

import { excerpt } from '../../cluster/excerpt.ts';
import type { Lease } from '../../cluster/lease.ts';
import { families, valuesOf } from '../../cluster/network-config.ts';
import { sameAddress } from '../../net/address.ts';
import { networkOf, samePrefix } from '../../net/prefix.ts';
import type { Problems } from '../report/problems.ts';
import type { PeerCounts, PeerOutcome } from './desired.ts';
import type { Failure } from './failures.ts';
import type { Operation } from './plan.ts';
import { rivalProblems } from './rivals.ts';

export interface PeerState {
  readonly lease: Lease;
  /** `direct`, `none`, or the backend's name where its tunnel leads there. */
  readonly path: string;
  readonly problem: string | undefined;
}

/** Whether a failed step keeps the peer from being reached. */
function concerns(operation: Operation, peer: Lease): boolean {
  switch (operation.kind) {
    case 'set-route':
      return families.some((family) => {
        const subnet = peer.subnets[family];
        return subnet && samePrefix(subnet, operation.route.destination);
      });
    case 'set-neighbour':
      return families.some((family) => {
        const subnet = peer.subnets[family];
        return subnet && sameAddress(networkOf(subnet).address, operation.neighbour.address);
      });
    case 'set-fdb':
      return families.some((family) => {
        const host = peer.publicAddresses[family];
        return host && sameAddress(host, operation.entry.destination);
      });
    case 'add-device':
      return true;
    default:
      return false;
  }
}

/** A peer's problem in words. */
function peerProblem({ peer, paths, problem }: PeerOutcome): string | undefined {
  const how = valuesOf(paths).length > 0 ? 'reached in part only' : 'left out';
  return problem && `Peer with lease "${excerpt(peer.ownerId)}" is ${how}: ${problem}`;
}

/** By lease. */
export const peerProblems = (peers: readonly PeerOutcome[]): Map<string, string> =>
  new Map(peers.filter(({ problem }) => problem).map((outcome) => [outcome.peer.ownerId, peerProblem(outcome)!]));

/** Reports what is wrong with peers. */
export function reportPeers(problems: Pick<Problems, 'reportAll'>, peers: readonly PeerOutcome[], own: Lease): void {
  problems.reportAll('peer', peerProblems(peers));
  problems.reportAll('older rival', rivalProblems(peers, 'older', own));
  problems.reportAll('younger rival', rivalProblems(peers, 'younger', own));
}

export function peerState({ peer, paths, problem }: PeerOutcome, failures: readonly Failure[]): PeerState {
  const failed = failures.find(({ operation }) => concerns(operation, peer));
  const used = Object.values(paths);
  return {
    lease: peer,
    path: used.includes('tunnel') ? peer.backendType : used.includes('direct') ? 'direct' : 'none',
    problem: problem ?? failed?.message,
  };
}

/** Without an object for each of thousands of peers that are in order. */
export function countPeers(peers: readonly PeerOutcome[], failures: readonly Failure[] = []): PeerCounts {
  let [programmed, withProblem] = [0, 0];
  for (const outcome of peers) {
    const { paths } = outcome;
    const problem = failures.length > 0 ? peerState(outcome, failures).problem : outcome.problem;
    if (problem !== undefined) withProblem++;
    else if (paths[4] !== undefined || paths[6] !== undefined) programmed++;
  }
  return { total: peers.length, programmed, withProblem };
}
