/** The metrics' figures that are read on request, not counted. */

import { valuesOf } from '../../cluster/network-config.ts';
import type { NodeStatus } from '../../cluster/status.ts';
import type { ClusterStore } from '../../cluster/store.ts';
import type { Attachments } from '../../reservations/attachments.ts';
import type { Membership } from '../membership/membership.ts';
import type { Figures, ProcessFigures } from '../report/metrics.ts';
import type { Problems } from '../report/problems.ts';
import type { Progress } from '../report/progress.ts';
import { countAddresses } from './addresses.ts';
import type { Condition, DataPathView } from './condition.ts';

export interface FiguresOptions {
  readonly node: string;
  readonly condition: Pick<Condition, 'readiness' | 'countPeers'>;
  readonly membership: Pick<Membership, 'view'>;
  readonly dataPath: { readonly state: DataPathView | undefined };
  readonly filter: { peerLock(): NodeStatus['peerLock'] };
  readonly problems: Pick<Problems, 'list'>;
  readonly progress: Pick<Progress, 'isInSync'>;
  readonly store: Pick<ClusterStore, 'liveness' | 'health'>;
  readonly attachments: Pick<Attachments, 'addresses' | 'count'>;
  /** Undefined where weftd does not ask the peers. */
  readonly paths: { readonly silentCount: number | undefined } | undefined;
  readonly readProcess: () => ProcessFigures | undefined;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/** How long a question waits for the store. */
const storeTimeoutMs = 500;

const pause = (ms: number): Promise<undefined> => new Promise((resolve) => setTimeout(() => resolve(undefined), ms));

export class FiguresSource {
  readonly #options: FiguresOptions;

  constructor(options: FiguresOptions) {
    this.#options = options;
  }

  async read(): Promise<Figures> {
    const nodesAlive = await this.#countAlive();
    const { node, condition, membership, dataPath, filter, problems, store, now } = this.#options;
    const { attachments, readProcess } = this.#options;
    const { view } = membership;
    const { connected, lastContactMs } = store.health();
    const expiresAtMs = view?.own.expiresAtMs;
    return {
      node,
      backend: view?.backend.type ?? '',
      interface: dataPath.state?.external.name,
      ready: condition.readiness() === undefined,
      problems: problems.list(['peer']).length,
      containers: attachments.count(),
      mtuBytes: dataPath.state?.mtuBytes,
      peers: condition.countPeers(),
      peersSilent: this.#options.paths?.silentCount,
      nodesAlive,
      leaseTtlSeconds: expiresAtMs === undefined ? undefined : Math.max(0, (expiresAtMs - now()) / 1000),
      storeConnected: connected,
      storeLastContactSeconds: lastContactMs === undefined ? undefined : lastContactMs / 1000,
      addresses: view ? countAddresses(attachments.addresses(), valuesOf(view.own.subnets)) : [],
      peerLock: filter.peerLock(),
      process: readProcess(),
    };
  }

  /** undefined if the store does not answer soon. */
  async #countAlive(): Promise<number | undefined> {
    const { progress, store } = this.#options;
    if (!progress.isInSync || !store.liveness) return undefined;
    const counted = store.liveness.count().catch(() => undefined);
    return await Promise.race([counted, pause(storeTimeoutMs)]);
  }
}
