/** Claims a subnet: picks a free one and writes it in a transaction. If another node was faster, it tries again. */

import { type Prefix, prefixesOverlap } from '../../net/prefix.ts';
import type { BackendFormats } from '../backend-format.ts';
import type { Clock, Random } from '../clock.ts';
import { formatLeaseValue, type Lease, type OwnLease } from '../lease.ts';
import { families, type PerFamily } from '../network-config.ts';
import type { Acquired, LeaseRequest, Liveness } from '../store.ts';
import { NoFreeSubnetError } from '../store-errors.ts';
import {
  chooseSubnet,
  currentLease,
  heldSubnets,
  isLostOurs,
  rivalsOf,
  supersededLeases,
  unreadableLease,
} from '../subnet-choice.ts';
import type { EtcdCalls } from './calls.ts';
import { toStoreError } from './errors.ts';
import { EtcdHandle, handleOf } from './handle.ts';
import type { Keys } from './keys.ts';
import { formatLeaseKey } from './lease-key.ts';
import type { LeaseReader } from './lease-reader.ts';
import type { LeaseWriter } from './lease-writer.ts';
import type { EtcdReader } from './reader.ts';
import { entryOf, get, isAbsent, isUnchanged, put, remove } from './requests.ts';
import type { Entry, Snapshot } from './snapshot.ts';

export interface ClaimOptions {
  readonly calls: EtcdCalls;
  readonly reader: EtcdReader;
  readonly parser: LeaseReader;
  readonly writer: LeaseWriter;
  readonly liveness: Pick<Liveness, 'living'>;
  readonly keys: Keys;
  readonly backends: BackendFormats;
  readonly clock: Clock;
  readonly random: Random;
  readonly leaseTtlSeconds: number;
  /** For errors. */
  readonly endpoint: string;
}

type Have = Extract<Acquired, { state: 'have' }>;

const op = 'claim a subnet';

/** How long to continue claiming after lost races, and the pauses between attempts. */
const claimTimeoutMs = 60_000;
const racePauseMs = 5;
const longestRacePauseMs = 1000;

const overlap = (a: PerFamily<Prefix>, b: PerFamily<Prefix>): boolean =>
  families.some((family) => {
    const x = a[family];
    const y = b[family];
    return x !== undefined && y !== undefined && prefixesOverlap(x, y);
  });

export class Claim {
  readonly #options: ClaimOptions;
  readonly #request: LeaseRequest;
  #lostRaces = 0;
  /** Granted, and holds nothing yet. */
  #etcdLease: string | undefined;

  constructor(options: ClaimOptions, request: LeaseRequest) {
    this.#options = options;
    this.#request = request;
  }

  /** @throws StoreError */
  async run(): Promise<Acquired> {
    const { calls, clock, random, keys, endpoint } = this.#options;
    const endMs = clock.nowMs() + claimTimeoutMs;
    try {
      while (clock.nowMs() < endMs) {
        const outcome = await this.#attempt();
        if (typeof outcome === 'object') return outcome;
        if (outcome === 'changed') continue;
        this.#lostRaces++;
        // The other losers try again, too.
        const pauseMs = random() * Math.min(racePauseMs * 2 ** this.#lostRaces, longestRacePauseMs);
        await new Promise<void>((resolve) => clock.setTimer(resolve, pauseMs));
      }
      const error = new Error(`other nodes were faster ${this.#lostRaces} times`);
      throw toStoreError({ op, key: keys.subnets, endpoint }, error);
    } catch (error) {
      if (error instanceof NoFreeSubnetError) return { state: 'none', why: error.message };
      throw error;
    } finally {
      if (this.#etcdLease !== undefined) await calls.revoke(this.#etcdLease);
    }
  }

  /** changed: a lease of ours did, under our hands. lost: somebody was faster. */
  async #attempt(): Promise<Have | 'changed' | 'lost'> {
    const { reader, parser, writer, liveness, random } = this.#options;
    const request = this.#request;
    const lostRaces = this.#lostRaces;
    const snapshot = await reader.snapshot();
    const { leases, malformed } = parser.read(snapshot);
    const { lost } = request;
    if (lost && isLostOurs(request, [...leases, ...malformed])) return await this.#takeBack(lost, snapshot, leases.all);
    const living = await liveness.living(request.further ? [] : rivalsOf(leases.all, request));
    const claim = { ...request, isLiving: (node: string): boolean => living.has(node) };
    const unreadable = request.further ? undefined : unreadableLease(leases.all, malformed, claim);
    const entry = unreadable?.subnets && snapshot.leases.get(formatLeaseKey(this.#options.keys, unreadable.subnets));
    if (unreadable?.subnets && entry?.key === unreadable.ownerId) {
      const superseded = supersededLeases(leases.all, claim);
      const own = await this.#overwrite(entry, unreadable.subnets);
      return own ? { state: 'have', own, how: 'kept', lostRaces, superseded } : 'changed';
    }
    // A node that keeps a lease need not know thousands of others.
    const isKept = !request.further && currentLease(leases.all, claim) !== undefined;
    const held = isKept ? [] : heldSubnets(request.config, [...leases, ...malformed]);
    const taken = held.map(({ subnets }) => subnets);
    const choice = chooseSubnet(claim, leases.all, taken, random, lostRaces);
    const superseded = request.further ? [] : supersededLeases(leases.all, claim);
    if (choice.how === 'kept') {
      const refreshed = await writer.refresh(op, choice.lease, request.value);
      return 'own' in refreshed ? { state: 'have', own: refreshed.own, how: 'kept', lostRaces, superseded } : 'changed';
    }
    const own = await this.#write(choice.subnets);
    return own ? { state: 'have', own, how: choice.how, lostRaces, superseded } : 'lost';
  }

  /** Claims the lost lease, or writes over whoever has claimed it since. */
  async #takeBack(lost: Lease, snapshot: Snapshot, leases: readonly Lease[]): Promise<Have | 'changed' | 'lost'> {
    const stranger = snapshot.leases.get(lost.ownerId);
    const lostRaces = this.#lostRaces;
    // On an etcd lease of our own: the stranger's would end with him.
    const own = await (stranger
      ? this.#overwrite(stranger, lost.subnets, { ...lost, etcdLease: handleOf(lost).etcdLease })
      : this.#write(lost.subnets));
    if (!own) return stranger ? 'changed' : 'lost';
    return { state: 'have', own, how: 'previous', lostRaces, superseded: supersededLeases(leases, this.#request) };
  }

  /** @returns our lease; undefined if somebody has written the entry since */
  async #overwrite(
    entry: Entry,
    subnets: PerFamily<Prefix>,
    {
      seniority = entry.createRevision,
      etcdLease = entry.etcdLease,
      reservation = etcdLease === '0',
    }: Partial<Pick<Lease, 'seniority' | 'reservation'> & Pick<Entry, 'etcdLease'>> = {},
  ): Promise<OwnLease | undefined> {
    const { key: ownerId, modRevision } = entry;
    const { value } = this.#request;
    const handle = new EtcdHandle(modRevision, etcdLease, {});
    const lease = { ...value, ownerId, subnets, reservation, ofFlannel: false, seniority, handle };
    const refreshed = await this.#options.writer.refresh(op, lease, value, true);
    return 'own' in refreshed ? refreshed.own : undefined;
  }

  async #write(subnets: PerFamily<Prefix>): Promise<OwnLease | undefined> {
    const { calls, parser, writer, keys, backends, clock, leaseTtlSeconds } = this.#options;
    const { value, lost } = this.#request;
    const key = formatLeaseKey(keys, subnets);
    const beforeMs = clock.nowMs();
    // The next attempt may be for another subnet; the problem stays the same, and is reported once.
    const subject = keys.subnets;
    this.#etcdLease ??= await calls.grant(op, subject, leaseTtlSeconds);
    const etcdLease = this.#etcdLease;
    const response = await writer.transact({
      op,
      subject,
      compare: [isAbsent(key)],
      success: [put(key, formatLeaseValue(value, backends), etcdLease)],
      failure: [get(key)],
    });
    const { revision } = response.header;
    const found = response.succeeded
      ? { modRevision: revision, createRevision: revision, etcdLease }
      : entryOf(response);
    // Found with our own etcd lease: the first of two attempts took effect without an answer.
    if (found?.etcdLease !== etcdLease || (await this.#mustYield(key, subnets))) return undefined;
    this.#etcdLease = undefined;
    return parser.aged({
      ...value,
      ownerId: key,
      subnets,
      reservation: false,
      ofFlannel: false,
      seniority: lost?.ownerId === key ? lost.seniority : found.createRevision,
      handle: new EtcdHandle(found.modRevision, etcdLease, {}),
      expiresAtMs: beforeMs + leaseTtlSeconds * 1000,
    });
  }

  /**
   * Whether an older lease overlaps ours under another key. Two dual-stack nodes may pick the same IPv4 subnet with
   * different IPv6 ones at the same time, and after a change of the config two lengths may be in use. If so, ours is
   * removed: of two that overlap, the later yields.
   */
  async #mustYield(key: string, subnets: PerFamily<Prefix>): Promise<boolean> {
    const { reader, parser, writer } = this.#options;
    const snapshot = await reader.snapshot();
    const own = snapshot.leases.get(key);
    if (!own) return true;
    const { leases, malformed } = parser.read(snapshot);
    // Not by etcd's revisions alone: somebody may have deleted our key after he had written an overlapping lease.
    const ages = new Map(leases.all.map(({ ownerId, seniority }) => [ownerId, seniority]));
    const { lost } = this.#request;
    if (lost?.ownerId === key) ages.set(key, lost.seniority);
    const ageOf = (ownerId: string): bigint =>
      BigInt(ages.get(ownerId) ?? snapshot.leases.get(ownerId)!.createRevision);
    const others = [...leases, ...malformed].filter(({ ownerId }) => ownerId !== key);
    const hasRival = heldSubnets(this.#request.config, others).some(
      (other) => overlap(other.subnets, subnets) && ageOf(other.ownerId) < ageOf(key),
    );
    if (!hasRival) return false;
    const compare = [isUnchanged(key, own.modRevision)];
    await writer.transact({ op, subject: key, compare, success: [remove(key)] });
    return true;
  }
}
