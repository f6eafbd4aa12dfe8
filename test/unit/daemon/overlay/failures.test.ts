import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { HostState } from '../../../../daemon/host/host-state.ts';
import { deriveDesired } from '../../../../daemon/overlay/desired.ts';
import { Failures } from '../../../../daemon/overlay/failures.ts';
import type { Operation } from '../../../../daemon/overlay/plan.ts';
import { plan } from '../../../../daemon/overlay/plan.ts';
import { openLogger } from '../../../../daemon/report/log.ts';
import { Problems } from '../../../../daemon/report/problems.ts';
import { overlay } from './cluster-of.ts';

const test = suite('daemon/overlay/failures');

/** The steps of a new node: a device, its address, three entries for each of two peers. */
const steps = plan(deriveDesired(overlay()).state, {
  devices: [],
  addresses: [],
  neighbours: [],
  fdb: [],
  routes: [],
}).operations;

class Site {
  nowMs = 0;
  readonly logger = openLogger({ level: 'error', format: 'text', write: () => {}, now: () => 0 });
  readonly problems = new Problems(this.logger, () => 0);
  readonly failures = new Failures({
    healing: { mended: () => false },
    logger: this.logger,
    problems: this.problems,
    now: () => this.nowMs,
    random: () => 0,
  });

  note(messageOf: (operation: Operation) => string | undefined, tried: readonly Operation[] = steps): void {
    const outcomes = tried.map((operation) => {
      const message = messageOf(operation);
      return { operation, error: message === undefined ? undefined : new Error(message) };
    });
    this.failures.note(steps, outcomes);
  }
}

test('a failed step is due again after a pause that grows', () => {
  const site = new Site();
  const { failures } = site;
  assert.is(failures.retryDelayMs, Number.POSITIVE_INFINITY);
  const isRoute = ({ kind }: Operation): boolean => kind === 'set-route';
  site.note((step) => (isRoute(step) ? 'no' : undefined));
  const first = failures.retryDelayMs;
  assert.ok(first > 0 && Number.isFinite(first));
  assert.not(failures.due(steps).some(isRoute));
  site.nowMs = first;
  assert.is(failures.due(steps).length, steps.length);
  site.note((step) => (isRoute(step) ? 'no' : undefined));
  assert.ok(failures.retryDelayMs > first);
  assert.is(site.problems.list().length, 1, 'two routes, one reason');
  site.note(() => undefined);
  assert.ok(failures.none);
  assert.equal(site.problems.list(), []);
});

test('entries wait with their device, whose failure stands for theirs', () => {
  const site = new Site();
  site.note(() => 'Cannot add VXLAN device');
  assert.equal(
    site.failures.list.map(({ operation }) => operation.kind),
    ['add-device'],
  );
  assert.equal(site.failures.due(steps), []);
});

test('another link or address makes everything due; one of a container does not', () => {
  const site = new Site();
  const host = (...links: object[]): HostState => ({ links, addresses: [], routes: [] }) as unknown as HostState;
  const eth0 = { index: 2, name: 'eth0', kind: undefined, flags: 1, mtuBytes: 1500 };
  site.failures.noteHost(host(eth0), 'eth0');
  site.note(() => 'no');
  site.failures.noteHost(host(eth0, { index: 9, name: 'v0', kind: 'veth', flags: 1, mtuBytes: 1450 }), 'eth0');
  assert.equal(site.failures.due(steps), []);
  site.failures.noteHost(host(eth0, { index: 8, name: 'wg0', flags: 1, mtuBytes: 1420 }), 'eth0');
  assert.is(site.failures.due(steps).length, steps.length);
});

test.run();
