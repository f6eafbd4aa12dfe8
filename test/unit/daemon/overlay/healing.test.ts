import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { deriveDesired } from '../../../../daemon/overlay/desired.ts';
import { Healing } from '../../../../daemon/overlay/healing.ts';
import { formatOperation, type Operation, plan } from '../../../../daemon/overlay/plan.ts';
import { openLogger } from '../../../../daemon/report/log.ts';
import { Metrics } from '../../../../daemon/report/metrics.ts';
import { address, type Changes, mac, macs, overlay, peer, prefix, vxlan } from './cluster-of.ts';
import { SimulatedKernel } from './simulated-kernel.ts';

const test = suite('daemon/overlay/healing');

/** A host whose data path is made and mended, and what of it was called mending. */
class Site {
  readonly kernel = new SimulatedKernel({
    devices: [{ name: 'eth0', index: 2, kind: undefined, up: true, mac: mac(250), mtuBytes: 1500 }],
  });
  readonly metrics = new Metrics({ version: '', runtime: '', monotonic: () => this.nowMs });
  readonly lines: string[] = [];
  nowMs = 0;
  refuses: (operation: Operation) => boolean = () => false;
  readonly #logger = openLogger({
    level: 'info',
    format: 'text',
    write: (line) => this.lines.push(line.slice(25).trim()),
    now: () => 0,
  });
  readonly healing = new Healing({ logger: this.#logger, metrics: this.metrics, now: () => this.nowMs });

  /** @returns the steps done; those that mended begin with `+` */
  run(changes: Changes = {}): string[] {
    const desired = deriveDesired(overlay(changes)).state;
    const { operations } = plan(desired, this.kernel.dump());
    this.healing.prepare(desired, operations);
    const outcomes = operations.map((operation) => {
      if (this.refuses(operation)) return { operation, error: new Error('refused') };
      this.kernel.apply(operation);
      return { operation, error: undefined };
    });
    this.healing.note(desired, operations, outcomes);
    return outcomes
      .filter(({ error }) => !error)
      .map(({ operation }) => `${this.healing.mended(operation) ? '+ ' : ''}${formatOperation(operation)}`);
  }

  /** Takes entries away that the planner finds by these words. */
  lose(list: 'routes' | 'fdb' | 'neighbours' | 'addresses' | 'devices', at = 0): void {
    this.kernel.state[list].splice(at, 1);
  }
}

const mended = (steps: readonly string[]): number => steps.filter((step) => step.startsWith('+ ')).length;

test('at the start, and with the cluster, nothing is mended', () => {
  const site = new Site();
  assert.ok(site.run().length > 0);
  const steps = [
    ...site.run({ peers: [peer(3)] }),
    ...site.run({ peers: [peer(3), peer(4), peer(5)] }),
    ...site.run({ peers: [peer(3, { backendData: macs(77, 78) }), peer(4), peer(5)] }),
    ...site.run({
      peers: [peer(3, { publicAddresses: { 4: address('192.0.2.33') } }), peer(4), peer(5)],
    }),
    ...site.run({ backend: { ...vxlan, mtuBytes: 1400 }, peers: [peer(3)] }),
    // Another port takes another device, and that takes all entries again.
    ...site.run({ backend: { ...vxlan, port: 4789 }, peers: [peer(3)] }),
    ...site.run({ backend: { ...vxlan, vni: 7 }, peers: [peer(3)], formerDevices: ['flannel.1'] }),
    ...site.run({ backend: { type: 'host-gw' }, peers: [peer(3)], formerDevices: ['flannel.1', 'flannel.7'] }),
  ];
  assert.ok(steps.length > 20);
  assert.is(mended(steps), 0, steps.join('\n'));
  assert.is(site.healing.total, 0);
});

test('what somebody else took away or changed is mended, and told', () => {
  const site = new Site();
  site.run();
  site.lines.length = 0;
  site.lose('routes');
  assert.equal(site.run(), ['+ set route "10.1.2.0/24" via "10.1.2.0" on "flannel.1"']);
  site.lose('fdb');
  site.lose('neighbours');
  assert.equal(mended(site.run()), 2);
  const device = site.kernel.state.devices.findIndex(({ name }) => name === 'flannel.1');
  site.kernel.state.devices[device] = { ...site.kernel.state.devices[device]!, mtuBytes: 1300, up: false };
  assert.equal(mended(site.run()), 1);
  assert.equal(site.lines, [
    'info  healed: set route "10.1.2.0/24" via "10.1.2.0" on "flannel.1"',
    'info  healed: set neighbour "10.1.2.0" (02:00:00:00:00:02) on "flannel.1"',
    'info  healed: set FDB entry "02:00:00:00:00:02" to "192.0.2.2" on "flannel.1"',
    'info  healed: change MTU, state of device "flannel.1"',
  ]);
  assert.equal(site.metrics.summary.healed, { device: 1, neighbour: 1, fdb: 1, route: 1 });
  assert.is(site.healing.total, 4);
});

test('what somebody else added is taken away, and that is mending', () => {
  const site = new Site();
  site.run();
  site.kernel.state.neighbours.push({ device: 'flannel.1', address: address('10.1.9.0'), mac: mac(9) });
  site.kernel.state.addresses.push({ device: 'flannel.1', prefix: prefix('10.1.9.9/32') });
  assert.equal(site.run(), [
    '+ remove neighbour "10.1.9.0" (02:00:00:00:00:09) on "flannel.1"',
    '+ remove address "10.1.9.9/32" from "flannel.1"',
  ]);
});

test('a device that went is mended with all that it had; with a change of the cluster at the same time that is told apart', () => {
  const site = new Site();
  site.run();
  for (const list of ['routes', 'fdb', 'neighbours', 'addresses'] as const) site.kernel.state[list].length = 0;
  site.lose('devices', 1);
  const steps = site.run({ peers: [peer(2), peer(3), peer(4)] });
  assert.equal(
    steps.filter((step) => !step.startsWith('+ ')),
    [
      'set neighbour "10.1.4.0" (02:00:00:00:00:04) on "flannel.1"',
      'set FDB entry "02:00:00:00:00:04" to "192.0.2.4" on "flannel.1"',
      'set route "10.1.4.0/24" via "10.1.4.0" on "flannel.1"',
    ],
  );
  assert.is(mended(steps), 8);
});

test('what fails at first is what it was when it succeeds', async () => {
  const site = new Site();
  site.refuses = ({ kind }) => kind === 'set-route';
  site.run();
  site.refuses = () => false;
  assert.equal(site.run(), [
    'set route "10.1.2.0/24" via "10.1.2.0" on "flannel.1"',
    'set route "10.1.3.0/24" via "10.1.3.0" on "flannel.1"',
  ]);
  site.lose('routes');
  site.refuses = () => true;
  assert.equal(site.run(), []);
  assert.equal(site.run(), []);
  site.refuses = () => false;
  assert.equal(site.run(), ['+ set route "10.1.2.0/24" via "10.1.2.0" on "flannel.1"']);
  assert.match(await site.metrics.format(), /^weftd_failed_total\{kind="route"\} 4$/m);
});

test('a setting mends where what it is for is what it was before', () => {
  const site = new Site();
  const set = (needs: string, ...done: string[]): number => {
    const before = site.healing.total;
    site.healing.noteSettings('sysctl', 'kernel settings', () => needs, done);
    return site.healing.total - before;
  };
  assert.is(set('eth0', 'set a'), 0, 'the first time');
  assert.is(set('eth0'), 0);
  assert.is(set('eth0', 'set a', 'set b'), 2, 'one that was right by itself, too');
  assert.is(set('eth1', 'set c'), 0, 'something else is wanted');
  assert.is(set('eth1', 'set c'), 1);
  assert.ok(site.lines.includes('info  healed: set b'));
});

test('the settings of a device that is made anew are as the device: wanted, or mended', () => {
  const site = new Site();
  const { operations: made } = plan(deriveDesired(overlay()).state, site.kernel.dump());
  const set = (): void => void site.healing.noteSettings('sysctl', 'kernel settings', () => 'flannel.1', ['set x']);
  site.run();
  set();
  site.healing.prepare(deriveDesired(overlay()).state, made);
  set();
  assert.is(site.healing.total, 1, 'the device was deleted');
  const other = deriveDesired(overlay({ backend: { ...vxlan, port: 4789 } })).state;
  const { operations } = plan(other, site.kernel.dump());
  site.healing.prepare(other, operations);
  set();
  assert.is(site.healing.total, 1, 'another one is wanted');
});

test('what goes together is some lines and a number; an argument with somebody does not fill the disk', () => {
  const site = new Site();
  const peers = Array.from({ length: 50 }, (_, i) => peer(i + 2));
  site.run({ peers });
  site.lines.length = 0;
  site.kernel.state.routes.length = 0;
  assert.is(mended(site.run({ peers })), 50);
  assert.is(site.lines.length, 21);
  assert.match(site.lines.at(-1)!, /^info {2}healed: set route "10\.1\.51\.0\/24" .* andOthers=29$/);
  for (let i = 0; i < 1000; i++) {
    if (i === 300) site.lines.length = 0;
    site.nowMs += 20;
    site.lose('routes');
    site.run({ peers });
  }
  assert.ok(site.lines.length < 14 * 8, `${site.lines.length} lines in 14 s`);
  assert.is(site.healing.total, 1050);
  assert.is(site.healing.summary.lastHour, 1050);
  site.nowMs += 3_600_000;
  assert.is(site.healing.summary.lastHour, 0);
  assert.is(site.healing.summary.total, 1050);
});

test.run();
