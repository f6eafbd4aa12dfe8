import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { LeaseSet } from '../../../../cluster/lease-set.ts';
import type { Liveness } from '../../../../cluster/store.ts';
import { StoreUnavailableError } from '../../../../cluster/store-errors.ts';
import { SharedAddress } from '../../../../daemon/membership/shared-address.ts';
import { address, peer } from '../overlay/cluster-of.ts';

const test = suite('daemon/membership/shared-address');

const shared = { 4: address('203.0.113.9') };
const own = { ...peer(1), publicAddresses: shared, expiresAtMs: undefined };
const sharing = (n: number) => peer(n, { publicAddresses: shared });

class Watched {
  nowMs = 0;
  living = new Set<string>();
  asked: string[] = [];
  failing = false;
  problem: string | undefined;
  readonly address = new SharedAddress({
    node: 'h1',
    liveness: {
      living: async (nodes: readonly string[]) => {
        this.asked.push(nodes.join(' '));
        const message = 'no answer';
        if (this.failing) throw new StoreUnavailableError({ code: 'timeout', op: '', subject: '', message });
        return new Set(nodes.filter((node) => this.living.has(node)));
      },
    } as Pick<Liveness, 'living'> as Liveness,
    problems: {
      report: (kind, message) => {
        assert.is(kind, 'shared address');
        this.problem = message;
      },
    },
    monotonic: () => this.nowMs,
  });

  async look(leases: LeaseSet): Promise<string | undefined> {
    await this.address.look(leases, own);
    return this.problem;
  }
}

test('another living node with our address is reported, with a remedy, until it or its lease is gone', async () => {
  const watched = new Watched();
  let leases = LeaseSet.of([sharing(1), peer(2)]);
  assert.is(await watched.look(leases), undefined);
  assert.is(watched.address.dueMs, Number.POSITIVE_INFINITY);
  leases = leases.with([[undefined, sharing(3)]])!;
  assert.is(await watched.look(leases), undefined, 'its record is not there yet');
  watched.living.add('h3');
  watched.nowMs = watched.address.dueMs;
  assert.is(
    await watched.look(leases),
    `This node's public address 203.0.113.9 is also that of "h3": packets of other hosts reach only one of them; give each node an address of its own with --public-ip or --iface`,
  );
  watched.failing = true;
  watched.nowMs = watched.address.dueMs;
  assert.ok(await watched.look(leases), 'it stays while the store does not answer');
  watched.failing = false;
  watched.living.delete('h3');
  watched.nowMs = watched.address.dueMs;
  assert.is(await watched.look(leases), undefined);
  watched.living.add('h3');
  watched.nowMs = watched.address.dueMs;
  assert.ok(await watched.look(leases));
  assert.is(await watched.look(LeaseSet.of([sharing(1), peer(2)])), undefined);
  assert.is(watched.address.dueMs, Number.POSITIVE_INFINITY);
});

test('nodes are asked about ever more seldom, and at most once a second however their leases change', async () => {
  const watched = new Watched();
  const leases = LeaseSet.of([sharing(3)]);
  for (; watched.nowMs < 3_600_000; watched.nowMs = watched.address.dueMs) await watched.look(leases);
  assert.ok(watched.asked.length < 70, `${watched.asked.length}`);
  watched.asked = [];
  const startedMs = watched.nowMs;
  for (; watched.nowMs < startedMs + 10_000; watched.nowMs += 10) await watched.look(LeaseSet.of([sharing(3)]));
  assert.ok(watched.asked.length <= 11, `${watched.asked.length}`);
});

test('of many nodes a few are named', async () => {
  const watched = new Watched();
  const leases = LeaseSet.of(Array.from({ length: 40 }, (_, i) => sharing(i + 2)));
  watched.living = new Set(leases.all.flatMap(({ node }) => node ?? []));
  assert.match((await watched.look(leases))!, /"h2", "h3", "h4", "h5", "h6" and 35 more:/);
});

test.run();
