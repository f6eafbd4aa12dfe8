/**
 * Changes of peers, followed from a full comparison that found everything right, without checking the rest. So one change
 * reaches the kernel in a millisecond or two, however many peers there are.
 *
 * The plan gets only the changed peers. That is allowed only while nothing else can have changed: same config, same lease,
 * no failed step, no kernel event about the host, no subnet or MAC that several peers want. A full comparison comes 2 s
 * after the last such change, at each event that weftd has not caused, and every minute.
 */

import { sameLeaseValue } from '../../cluster/lease.ts';
import type { Family } from '../../net/address.ts';
import type { FilterPort } from '../filter/upkeep.ts';
import type { ExternalInterface } from '../host/external-interface.ts';
import type { HostState } from '../host/host-state.ts';
import type { ClusterView } from '../membership/view.ts';
import type { Logger } from '../report/log.ts';
import type { Problems } from '../report/problems.ts';
import type { Desired } from './desired.ts';
import type { Failures } from './failures.ts';
import type { Healing } from './healing.ts';
import { countKinds, type Kernel } from './kernel.ts';
import type { KernelSettings } from './kernel-settings.ts';
import { narrowToPeers } from './narrow.ts';
import { reportPeers } from './peer-states.ts';
import { placementsOf } from './placements.ts';
import { plan } from './plan.ts';
import { isShadowed } from './shadows.ts';

/** The state after a full comparison without failures. */
export interface Baseline {
  readonly view: ClusterView;
  /** Without weftd's own routes. */
  readonly host: HostState;
  readonly external: ExternalInterface;
  /** The families in use. */
  readonly families: readonly Family[];
  /** Advances with the changes that were followed. */
  readonly desired: Desired;
}

export interface FollowOptions {
  readonly kernel: Pick<Kernel, 'apply'>;
  readonly settings: Pick<KernelSettings, 'ensure'>;
  readonly filter: Pick<FilterPort, 'ensure' | 'change' | 'followed'>;
  readonly failures: Failures;
  readonly healing: Pick<Healing, 'forget' | 'note'>;
  readonly logger: Logger;
  readonly problems: Pick<Problems, 'reportAll'>;
  /** Milliseconds on a clock that does not go back. */
  readonly now: () => number;
}

export interface Followed {
  readonly changes: number;
  /** When the packet filter is to be looked at again; infinite where there is no need. */
  readonly rulesAgainMs: number;
}

const sameList = <T>(a: readonly T[], b: readonly T[]): boolean =>
  a.length === b.length && a.every((value, i) => value === b[i]);

/** Whether two views are equal except for the peers. */
export const differInPeersOnly = (a: ClusterView, b: ClusterView): boolean =>
  a.config === b.config &&
  a.backend === b.backend &&
  a.own.ownerId === b.own.ownerId &&
  a.age.seniority === b.age.seniority &&
  sameLeaseValue(a.own, b.own) &&
  sameList(a.formerSubnets, b.formerSubnets);

/**
 * Programs the peers that have come, gone or changed.
 * @returns undefined where the changes bear on more than these peers: compare everything
 * @throws SyscallError
 */
export function followPeers(options: FollowOptions, baseline: Baseline, view: ClusterView): Followed | undefined {
  const { kernel, settings, filter, failures, healing, logger, problems, now } = options;
  const startedMs = now();
  const { host, external, desired } = baseline;
  const { removed, added } = view.peers.differenceTo(baseline.view.peers);
  if (removed.length + added.length === 0) return { changes: 0, rulesAgainMs: Number.POSITIVE_INFINITY };
  // The table was the desired state; from here on it is ahead of the kernel.
  healing.forget();
  const changed = desired.table.change(removed, added);
  if (!changed || changed.added.some(({ routes }) => isShadowed(routes, host))) return undefined;
  const isDirect = changed.added.some(({ routes }) =>
    routes.some(({ device, gateway }) => device === external.name && gateway !== undefined),
  );
  // A new peer's packets are admitted before there is a route for the answers; one that leaves is shut out after.
  const [come, gone] = [placementsOf(changed.added), placementsOf(changed.removed)];
  const admitted = added.length === 0 || filter.change(view, added, [], { added: come, removed: [] });
  if (!admitted) filter.ensure(view, { keepPeers: true, trust: true });
  const narrowed = narrowToPeers(desired.state, changed);
  const { operations } = plan(narrowed.desired, narrowed.actual);
  // The first plain route needs other settings.
  if (isDirect) settings.ensure(desired.state, external.name, baseline.families, host);
  const outcomes = kernel.apply(operations, host);
  healing.note(desired.state, operations, outcomes);
  failures.note(operations, outcomes);
  if ([...changed.removed, ...changed.added].some(({ problem }) => problem)) {
    reportPeers(problems, desired.peers, view.own);
  }
  const isLocked =
    admitted && (removed.length === 0 || filter.change(view, added, removed, { added: come, removed: gone }));
  if (isLocked) filter.followed(view);
  const rules = isLocked ? undefined : filter.ensure(view, { trust: true });
  const changes = outcomes.filter(({ error }) => !error).length;
  if (changes > 0) {
    const tookMs = Math.round((now() - startedMs) * 10) / 10;
    logger.debug('peers followed', { ...countKinds(outcomes), tookMs });
  }
  return { changes, rulesAgainMs: rules?.againMs ?? Number.POSITIVE_INFINITY };
}
