/** The document that `weftctl status` shows. */

import { compareLeases } from '../../cluster/lease.ts';
import { families } from '../../cluster/network-config.ts';
import type { NodeStatus, PathsStatus } from '../../cluster/status.ts';
import type { ClusterStore } from '../../cluster/store.ts';
import { formatAddress } from '../../net/address.ts';
import { formatPrefix } from '../../net/prefix.ts';
import type { Attachments } from '../../reservations/attachments.ts';
import type { FilterUpkeep } from '../filter/upkeep.ts';
import type { Membership } from '../membership/membership.ts';
import type { Metrics } from '../report/metrics.ts';
import type { Problems } from '../report/problems.ts';
import type { Progress } from '../report/progress.ts';
import { countAddresses } from './addresses.ts';
import type { ClusterNodesSource } from './cluster-nodes.ts';
import type { Condition, DataPathView } from './condition.ts';

export interface NodeStatusOptions {
  readonly node: string;
  readonly version: string;
  readonly pid: number;
  readonly ipMasq: boolean;
  readonly condition: Pick<Condition, 'state' | 'health'>;
  readonly membership: Pick<Membership, 'view'>;
  readonly dataPath: {
    readonly state: DataPathView | undefined;
    readonly healed: {
      readonly total: number;
      readonly lastHour: number;
      /** On the clock that does not go back. */
      readonly last: { readonly what: string; readonly atMs: number } | undefined;
    };
  };
  readonly filter: Pick<FilterUpkeep, 'peerLock' | 'droppedFrom' | 'tracking'>;
  readonly problems: Pick<Problems, 'list' | 'all'>;
  readonly store: Pick<ClusterStore, 'health' | 'place' | 'kind'>;
  readonly nodes: Pick<ClusterNodesSource, 'refresh' | 'livenessOf'>;
  readonly metrics: Pick<Metrics, 'summary' | 'leaseAgeSeconds'>;
  readonly progress: Pick<Progress, 'startedAtMs' | 'isInSync' | 'lastChangeMs'>;
  readonly attachments: Pick<Attachments, 'addresses'>;
  /** Undefined where weftd does not ask the peers. */
  readonly paths: { readonly status: PathsStatus } | undefined;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Milliseconds on a clock that does not go back. */
  readonly monotonic: () => number;
}

/** How long a question waits for the store. */
const storeTimeoutMs = 500;

/** Thousands of peers may have a problem each. */
const shownFindings = 200;

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const iso = (ms: number): string => new Date(ms).toISOString();

export class NodeStatusSource {
  readonly #options: NodeStatusOptions;

  constructor(options: NodeStatusOptions) {
    this.#options = options;
  }

  /** With the live nodes that the store lists now; if it does not answer soon, with the last known ones. */
  async read(): Promise<NodeStatus> {
    const { membership, nodes, progress } = this.#options;
    if (progress.isInSync && membership.view) {
      await Promise.race([nodes.refresh().catch(() => {}), pause(storeTimeoutMs)]);
    }
    return this.#document();
  }

  #peerLock(): NodeStatus['peerLock'] {
    const { filter } = this.#options;
    const lock = filter.peerLock();
    const from = lock.droppedPackets > 0 ? filter.droppedFrom() : [];
    return from.length > 0 ? { ...lock, from } : lock;
  }

  #document(): NodeStatus {
    const { membership, dataPath, filter, problems, condition, progress, node, version, pid, ipMasq } = this.#options;
    const { attachments } = this.#options;
    const { view } = membership;
    const { state } = dataPath;
    const stuck = condition.health();
    const subnets = view && !view.takenBy ? families.flatMap((family) => view.own.subnets[family] ?? []) : [];
    return {
      node,
      version,
      pid,
      startedAt: iso(progress.startedAtMs),
      state: condition.state,
      ...(stuck === undefined ? {} : { stuck }),
      // A peer's problem is shown with the peer.
      problems: problems.list(['peer']),
      findings: this.#findings(),
      networks: view ? families.flatMap((family) => view.config.networks[family]?.network ?? []).map(formatPrefix) : [],
      subnets: subnets.map(formatPrefix),
      publicAddresses: view
        ? families.flatMap((family) => view.own.publicAddresses[family] ?? []).map(formatAddress)
        : [],
      backend: view?.backend.type ?? '',
      ...(state ? { interface: state.external.name, mtuBytes: state.mtuBytes } : {}),
      devices: state?.devices ?? [],
      ipMasq,
      peerLock: this.#peerLock(),
      tracking: filter.tracking(),
      ...this.#lease(),
      etcd: this.#store(),
      changes: this.#changes(),
      addresses: view ? countAddresses(attachments.addresses(), subnets) : [],
      peers: this.#peers(),
      ...(this.#options.paths ? { paths: this.#options.paths.status } : {}),
    };
  }

  #findings(): NonNullable<NodeStatus['findings']> {
    const { problems, now, monotonic } = this.#options;
    return problems.all.slice(0, shownFindings).map(({ head, subject, message, sinceMs }) => ({
      code: head.code,
      severity: head.severity,
      subject,
      message,
      since: iso(now() - monotonic() + sinceMs),
    }));
  }

  #lease(): Pick<NodeStatus, 'lease'> {
    const { membership, metrics } = this.#options;
    const { view } = membership;
    if (!view || view.takenBy) return {};
    const { own } = view;
    const { leaseAgeSeconds } = metrics;
    const { leaseRenewals, leaseLosses } = metrics.summary;
    return {
      lease: {
        key: own.ownerId,
        reservation: own.reservation,
        ...(own.expiresAtMs === undefined ? {} : { expiresAt: iso(own.expiresAtMs) }),
        ...(leaseAgeSeconds === undefined ? {} : { ageSeconds: Math.round(leaseAgeSeconds) }),
        renewals: leaseRenewals,
        losses: leaseLosses,
      },
    };
  }

  #store(): NodeStatus['etcd'] {
    const { store, metrics } = this.#options;
    const { endpoints, connected, lastContactMs, error } = store.health();
    const counted = metrics.summary;
    const { storeMedianMs: medianMs, storeWorstMs: worstMs } = counted;
    return {
      kind: store.kind,
      endpoints,
      prefix: store.place,
      connected,
      ...(lastContactMs === undefined ? {} : { lastContact: iso(lastContactMs) }),
      ...(error === undefined ? {} : { error }),
      watching: counted.watching,
      requests: counted.storeRequests,
      errors: counted.storeErrors,
      ...(medianMs === undefined ? {} : { medianMs }),
      ...(worstMs === undefined ? {} : { worstMs }),
      watchLosses: counted.watchLosses,
      watchResyncs: counted.watchResyncs,
    };
  }

  #changes(): NodeStatus['changes'] {
    const { dataPath, metrics, progress, now, monotonic } = this.#options;
    const counted = metrics.summary;
    const { healed } = dataPath;
    const { lastChangeMs } = progress;
    return {
      programmed: counted.programmed,
      healed: healed.total,
      healedLastHour: healed.lastHour,
      healedByKind: counted.healed,
      ...(healed.last ? { lastHeal: { what: healed.last.what, at: iso(now() - monotonic() + healed.last.atMs) } } : {}),
      failed: counted.failed,
      ...(lastChangeMs === undefined ? {} : { lastChangeMs }),
    };
  }

  #peers(): NodeStatus['peers'] {
    const { dataPath, nodes, progress } = this.#options;
    return [...(dataPath.state?.peers ?? [])]
      .sort((a, b) => compareLeases(a.lease, b.lease))
      .map(({ lease, path, problem }) => ({
        ...(lease.node === undefined ? {} : { node: lease.node }),
        ...(lease.version === undefined ? {} : { version: lease.version }),
        subnets: families.flatMap((family) => lease.subnets[family] ?? []).map(formatPrefix),
        publicAddresses: families.flatMap((family) => lease.publicAddresses[family] ?? []).map(formatAddress),
        backend: lease.backendType,
        ...(progress.isInSync ? nodes.livenessOf(lease) : {}),
        programmed: path !== 'none' && problem === undefined,
        path,
        ...(problem === undefined ? {} : { problem }),
      }));
  }
}
