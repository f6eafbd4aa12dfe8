/** Publishes that this node is alive. */

import type { PerFamily } from '../../cluster/network-config.ts';
import type { ClusterStore } from '../../cluster/store.ts';
import { StoreRefusedError } from '../../cluster/store-errors.ts';
import type { Address } from '../../net/address.ts';
import type { Attachments } from '../../reservations/attachments.ts';
import type { Membership } from '../membership/membership.ts';
import { formatAddresses } from '../membership/view.ts';
import type { Bell } from '../pace/bell.ts';
import type { Task } from '../pace/task.ts';
import type { Problems } from '../report/problems.ts';
import type { Progress } from '../report/progress.ts';

export interface PublishNodeOptions {
  readonly store: Pick<ClusterStore, 'kind' | 'liveness' | 'tellHealth'>;
  readonly membership: Pick<Membership, 'view'>;
  readonly problems: Pick<Problems, 'all' | 'ofThisNode' | 'report'>;
  readonly progress: Pick<Progress, 'isInSync' | 'startedAtMs'>;
  readonly node: string;
  readonly version: string;
  readonly attachments: Pick<Attachments, 'count'>;
  readonly bells: { readonly sync: Bell; readonly publish: Bell };
  readonly deadlineMs: number;
}

/** How long a stop waits for the store. */
const withdrawTimeoutMs = 250;

/** @param address the other host's */
const nameProblem = (node: string, address: string, own: PerFamily<Address>): string =>
  address === formatAddresses(own)
    ? `Another host has the name "${node}" and the public address ${address}, too, so that both use one subnet, and their containers the same addresses; give one of them another name with --node, and an address of its own with --public-ip or --iface`
    : `Another host, at ${address}, has the name "${node}", too; give one of them another name with --node`;

/** Problems with the store itself: it cannot be told of them. */
const untold: ReadonlySet<string> = new Set(['kubernetes', 'liveness']);

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export class PublishNode implements Task {
  readonly name = 'telling the cluster';
  readonly everyMs = 10_000;
  /** Nodes that started together must not publish in step. */
  readonly jitter = 0.1;
  readonly deadlineMs: number;
  readonly firstMs = 10_000;
  readonly pauseMs = 1000;
  readonly wakeOn: readonly Bell[];
  readonly #options: PublishNodeOptions;
  /** Whether this node's record is probably in the store. */
  #isPublished = false;
  /** The current run. */
  #publishing: Promise<void> | undefined;
  /** Consecutive failures while the store answered other requests. */
  #failures = 0;

  constructor(options: PublishNodeOptions) {
    this.#options = options;
    this.deadlineMs = options.deadlineMs;
    this.wakeOn = [options.bells.publish];
  }

  async run(): Promise<undefined> {
    this.#publishing = this.#publish().finally(() => {
      this.#publishing = undefined;
    });
    await this.#publishing;
    return undefined;
  }

  /** Removes the record, so that others see at once that this node is down. */
  async withdraw(): Promise<void> {
    const { progress, node } = this.#options;
    const { liveness } = this.#options.store;
    if (!progress.isInSync || !liveness) return;
    const publishing = this.#publishing;
    // A record that is being written now would appear after the withdrawal. If that takes too long, the withdrawal
    // ends the store's lease that it would be written with.
    if (publishing) await Promise.race([publishing.catch(() => {}), pause(withdrawTimeoutMs)]);
    if (!this.#isPublished && !this.#publishing) return;
    const withdrawn = liveness.withdraw(node).catch(() => {});
    await Promise.race([withdrawn, pause(withdrawTimeoutMs)]);
  }

  async #publish(): Promise<void> {
    const { membership, problems, progress, node, version, attachments, bells } = this.#options;
    const { store } = this.#options;
    const { liveness, kind } = store;
    const { view } = membership;
    // While the store is unreachable nothing can be published; the listing notices when it is back.
    if (!view || !progress.isInSync) return;
    if (!liveness) return await this.#tellHealth();
    const containers = attachments.count();
    try {
      const { conflict, isForged } = await liveness.publish({
        node,
        version,
        publicAddresses: view.own.publicAddresses,
        backendType: view.backend.type,
        startedAtMs: progress.startedAtMs,
        health: problems.ofThisNode()[0] ?? 'ok',
        ...(containers === undefined ? {} : { containers }),
      });
      this.#isPublished = true;
      this.#failures = 0;
      problems.report('liveness', undefined);
      problems.report(
        'node name',
        conflict
          ? nameProblem(node, formatAddresses(conflict.publicAddresses), view.own.publicAddresses)
          : isForged
            ? `Somebody writes the record of "${node}" in ${kind}; weftd writes it back; see who has the rights of a node there`
            : undefined,
      );
    } catch (error) {
      this.#isPublished = false;
      // The listing reports an unreachable store. Other failures are reported here.
      bells.sync.ring();
      if (++this.#failures > 1 || error instanceof StoreRefusedError) {
        problems.report('liveness', `${(error as Error).message}; live nodes may be shown as down`, 'debug');
      }
    }
  }

  /** In one word: peers and people need no more, and every change is a write. */
  async #tellHealth(): Promise<void> {
    const { store, problems } = this.#options;
    const own = problems.all.find(({ isOwn, head: { code } }) => isOwn && !untold.has(code));
    try {
      await store.tellHealth?.(own?.head.code);
    } catch (error) {
      // The listing reports a store that does not answer.
      if (error instanceof StoreRefusedError) problems.report('liveness', error.message, 'debug');
      return;
    }
    problems.report('liveness', undefined);
  }
}
