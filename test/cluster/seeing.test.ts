/** The outside view of weftd: probes, metrics, messages to the service manager and to people. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { ServiceManager } from '../../daemon/answers/service-manager.ts';
import { sys } from '../../linux/sys-bun.ts';
import { Cluster } from '../lab/cluster.ts';
import { execute, run } from '../lab/commands.ts';
import type { Host } from '../lab/host.ts';
import { readFdb, readLink, readRoutes } from '../lab/kernel-state.ts';
import { exampleConfig } from '../lab/project.ts';
import { waitFor } from '../lab/wait.ts';
import { type MetricFamily, parseExposition } from '../support/exposition.ts';
import { fixture } from '../support/fixture.ts';
import { NotifySocket } from '../support/notify-socket.ts';

const test = suite('seeing');
const port = '10256';

const cluster = fixture(
  test,
  () => {
    const made = new Cluster('seeing');
    for (let i = 0; i < 3; i++) made.addHost();
    return made;
  },
  (made) => made.remove(),
);

interface Reply {
  readonly status: number;
  readonly body: string;
}

/** Asks weftd from its own host. */
function ask(host: Host, path: string, ...further: string[]): Reply {
  const base = further.length > 0 ? further : [`http://127.0.0.1:${port}${path}`];
  const argv = ['curl', '--silent', '--show-error', '--max-time', '5', '--write-out', '\n%{http_code}', ...base];
  const { status, stdout, stderr } = execute(argv, { namespace: host.namespace });
  if (status !== 0) throw new Error(`curl ${base.join(' ')}: ${stderr}`);
  const end = stdout.lastIndexOf('\n');
  return { status: Number(stdout.slice(end + 1)), body: stdout.slice(0, end) };
}

const askSocket = (host: Host, path: string): Reply =>
  ask(host, path, '--unix-socket', join(host.runDir, 'weftd.sock'), `http://weftd${path}`);

/** By the socket: those on the network may be a second old. */
const metricsOf = (host: Host): MetricFamily[] => parseExposition(askSocket(host, '/metrics').body);

/** The sum of a family's samples with these labels. */
function value(host: Host, name: string, labels: Readonly<Record<string, string>> = {}): number | undefined {
  const samples = metricsOf(host)
    .flatMap((family) => family.samples)
    .filter(
      (sample) => sample.name === name && Object.entries(labels).every(([key, text]) => sample.labels[key] === text),
    );
  return samples.length === 0 ? undefined : samples.reduce((sum, sample) => sum + sample.value, 0);
}

test('without etcd weftd is alive and not ready, and counts the failed requests', async () => {
  const [one] = cluster().hosts as [Host];
  one.startWeftd('--healthz-port', port);
  await waitFor('weftd to answer', () => ask(one, '/healthz').status === 200);
  const ready = await waitFor('a reason', () => {
    const reply = ask(one, '/readyz');
    return /etcd/.test(reply.body) && reply;
  });
  assert.is(ready.status, 503);
  assert.match(ready.body, /Cannot .* in etcd at .*; is etcd running there\?|Cannot .* in etcd at /);
  await waitFor('an error to be counted', () => (value(one, 'weftd_etcd_request_errors_total') ?? 0) > 0);
  assert.is(value(one, 'weftd_ready'), 0);
  assert.is(value(one, 'weftd_etcd_up'), 0);
  assert.is(askSocket(one, '/healthz').status, 200);
  assert.is(askSocket(one, '/readyz').status, 503);
  assert.is(one.status().state, 'starting');
});

test('with etcd weftd becomes ready, and the figures match the cluster', async () => {
  const { hosts } = cluster();
  const [one] = hosts as [Host];
  await cluster().startEtcd();
  cluster().put('config', readFileSync(exampleConfig, 'utf8'));
  for (const host of hosts.slice(1)) host.startWeftd('--healthz-port', port);
  for (const host of hosts) await host.reaches(hosts);
  assert.equal(ask(one, '/readyz'), { status: 200, body: 'ok\n' });
  assert.is(value(one, 'weftd_ready'), 1);
  assert.is(value(one, 'weftd_peers'), 2);
  assert.is(value(one, 'weftd_peers_programmed'), 2);
  assert.is(value(one, 'weftd_peers_with_problem'), 0);
  await waitFor('three nodes to be alive', () => value(one, 'weftd_nodes_alive') === 3);
  assert.is(value(one, 'weftd_node_info', { node: one.name, backend: 'vxlan', interface: 'eth0' }), 1);
  assert.is(value(one, 'weftd_healed_total'), 0, 'nobody has changed anything');
  assert.ok(value(one, 'weftd_programmed_total', { kind: 'route' })! >= 2);
  assert.is(value(one, 'weftd_lease_claims_total', { how: 'new' }), 1);
  const ttlSeconds = value(one, 'weftd_lease_ttl_seconds')!;
  assert.ok(ttlSeconds > 86_000 && ttlSeconds <= 86_400, `${ttlSeconds}`);
  assert.ok(value(one, 'weftd_etcd_request_seconds_count', { operation: 'list_leases' })! > 0);
  assert.is(value(one, 'weftd_etcd_watch_up'), 1);
  assert.ok(value(one, 'process_resident_memory_bytes')! > 10e6);
  assert.ok(Math.abs(value(one, 'process_start_time_seconds')! - Date.now() / 1000) < 600);
  assert.equal(
    parseExposition(ask(one, '/metrics').body).map(({ name }) => name),
    metricsOf(one).map(({ name }) => name),
  );

  const free = value(one, 'weftd_addresses_free', { subnet: one.subnet })!;
  const pods = one.attachPods(2);
  assert.is(value(one, 'weftd_addresses_used', { subnet: one.subnet }), 2);
  assert.is(value(one, 'weftd_addresses_free'), free - 2);
  assert.is(value(one, 'weftd_containers'), 2);
  for (const pod of pods) pod.detach();
  assert.is(value(one, 'weftd_addresses_used'), 0);
});

test('a peer that joins or leaves counts as programmed, not as healed', async () => {
  const [one, , three] = cluster().hosts as [Host, Host, Host];
  const routes = value(one, 'weftd_programmed_total', { kind: 'route' })!;
  const followed = value(one, 'weftd_etcd_to_kernel_seconds_count')!;
  await three.weftd!.stop();
  assert.is(three.runWeftd('--leave').status, 0);
  await waitFor('the peer to go', () => value(one, 'weftd_peers') === 1);
  three.startWeftd('--healthz-port', port);
  await one.reaches([three]);
  assert.ok(value(one, 'weftd_programmed_total', { kind: 'route' })! >= routes + 2);
  // One that goes is waited for a moment, in case it comes back.
  assert.ok(value(one, 'weftd_etcd_to_kernel_seconds_count')! > followed);
  assert.is(value(one, 'weftd_healed_total'), 0, one.log);
});

const damages: readonly (readonly [kind: string, what: RegExp, damage: (host: Host) => void])[] = [
  [
    'route',
    /healed: set route "/,
    (host) =>
      host.ip(
        'route',
        'del',
        readRoutes(host.namespace).find(({ device, gateway }) => device === 'flannel.1' && gateway)!.destination,
      ),
  ],
  [
    'fdb',
    /healed: set FDB entry "/,
    (host) => {
      const { mac, destination } = readFdb(host.namespace).find(({ device }) => device === 'flannel.1')!;
      run(['bridge', '-n', host.namespace, 'fdb', 'del', mac, 'dev', 'flannel.1', 'dst', destination]);
    },
  ],
  ['device', /healed: change MTU of device "flannel\.1"/, (host) => host.ip('link', 'set', 'flannel.1', 'mtu', '1300')],
  [
    'sysctl',
    /healed: set kernel setting net\.ipv4\.ip_forward/,
    (host) => run(['sysctl', '-qw', 'net.ipv4.ip_forward=0'], { namespace: host.namespace }),
  ],
  [
    'rules',
    /healed: set packet filter table/,
    (host) => run(['nft', 'delete', 'table', 'inet', 'weft'], { namespace: host.namespace }),
  ],
];

for (const [kind, what, damage] of damages) {
  test(`a change by somebody else is healed, counted and logged: ${kind}`, async () => {
    const [one] = cluster().hosts as [Host];
    const before = value(one, 'weftd_healed_total', { kind })!;
    damage(one);
    await waitFor(`${kind} to be counted`, () => value(one, 'weftd_healed_total', { kind })! > before);
    assert.match(one.log, what);
    const { changes } = one.status();
    assert.ok(changes.healedByKind[kind]! > 0);
    assert.match(changes.lastHeal!.what, new RegExp(what.source.replace('healed: ', '')));
    assert.ok(Math.abs(Date.parse(changes.lastHeal!.at) - Date.now()) < 60_000, changes.lastHeal!.at);
  });
}

test('a deleted device is healed with all its entries, and the time is measured', async () => {
  const [one] = cluster().hosts as [Host];
  const healed = (kind: string): number => value(one, 'weftd_healed_total', { kind })!;
  const before = Object.fromEntries(
    ['device', 'address', 'neighbour', 'fdb', 'route'].map((kind) => [kind, healed(kind)]),
  );
  const counted = value(one, 'weftd_heal_seconds_count')!;
  one.ip('link', 'del', 'flannel.1');
  await waitFor('the routes to be healed', () => healed('route') >= before['route']! + 2);
  for (const [kind, count] of Object.entries(before)) assert.ok(healed(kind) > count, kind);
  assert.ok(readLink(one.namespace, 'flannel.1'));
  await waitFor('the time to be counted', () => value(one, 'weftd_heal_seconds_count')! > counted);
  assert.match(
    one.weftctl('status').stdout,
    /Healed +\d+ changes since the start, \d+ in the last hour\n +last \d+ s ago: /,
  );
});

test('etcd is killed: errors are counted, weftd stays alive and ready; the watch returns with etcd', async () => {
  const [one] = cluster().hosts as [Host];
  const errors = value(one, 'weftd_etcd_request_errors_total') ?? 0;
  const losses = value(one, 'weftd_etcd_watch_losses_total')!;
  await cluster().stopEtcd();
  await waitFor('errors', () => value(one, 'weftd_etcd_request_errors_total')! > errors, { deadlineMs: 30_000 });
  await waitFor('it to be seen', () => value(one, 'weftd_etcd_up') === 0 && value(one, 'weftd_etcd_watch_up') === 0);
  assert.is(ask(one, '/healthz').status, 200);
  assert.is(ask(one, '/readyz').status, 200);
  assert.ok(value(one, 'weftd_problems')! > 0);
  await cluster().startEtcd();
  await waitFor('the watch', () => value(one, 'weftd_etcd_watch_up') === 1, { deadlineMs: 30_000 });
  assert.ok(value(one, 'weftd_etcd_watch_losses_total')! > losses);
  await waitFor('no problem', () => value(one, 'weftd_problems') === 0, { deadlineMs: 30_000 });
});

test('a task that hangs causes 503 and stops the watchdog’s signals until it ends', async () => {
  const [, , three] = cluster().hosts as [Host, Host, Host];
  await three.weftd!.stop();
  const socket = new NotifySocket(sys, join(three.folder, 'notify'));
  try {
    const environment = {
      ...(process.env as Record<string, string>),
      NOTIFY_SOCKET: socket.name,
      WATCHDOG_USEC: '200000',
      WEFTD_TEST_STUCK_MS: '1000',
      WEFTD_TEST_ETCD_TIMEOUT_MS: '8000',
    };
    three.startWeftdWith({ environment }, '--healthz-port', port);
    await three.reaches(cluster().hosts);
    assert.is(ask(three, '/healthz').status, 200);
    cluster().etcd.freeze();
    try {
      const reply = await waitFor(
        'the loop to be stuck',
        () => {
          const asked = ask(three, '/healthz');
          return asked.status === 503 && asked;
        },
        { deadlineMs: 40_000 },
      );
      assert.match(reply.body, /^"[a-z ]+" has not ended for \d+ s\n$/);
      assert.match(three.weftctl('status').stdout, /weftd itself is stuck/);
    } finally {
      cluster().etcd.thaw();
    }
    await waitFor('the loop to be alive', () => ask(three, '/healthz').status === 200, { deadlineMs: 40_000 });
    const signs = socket.count('WATCHDOG=1');
    await waitFor('signs of life', () => socket.count('WATCHDOG=1') > signs);
  } finally {
    socket.close();
  }
});

test('the service manager receives ready, status, watchdog signals, reload and stop', async () => {
  const [, two] = cluster().hosts as [Host, Host];
  await two.weftd!.stop();
  const socket = new NotifySocket(sys, join(two.folder, 'notify'));
  try {
    const environment = {
      ...(process.env as Record<string, string>),
      NOTIFY_SOCKET: socket.name,
      WATCHDOG_USEC: '200000',
    };
    const weftd = two.startWeftdWith({ environment });
    await waitFor('READY=1', () => socket.count('READY=1') === 1, { deadlineMs: 20_000 });
    await two.reaches(cluster().hosts);
    const running = new RegExp(`^STATUS=running: ${two.subnet}, 2 peers$`, 'm');
    await waitFor(
      'the status',
      () => running.test(socket.messages.at(-1) ?? '') || socket.messages.some((text) => running.test(text)),
    );

    await waitFor('signs of life', () => socket.count('WATCHDOG=1') > 3);
    weftd.child.kill('SIGSTOP');
    const signs = await waitFor('silence', async () => {
      const before = socket.count('WATCHDOG=1');
      await new Promise((resolve) => setTimeout(resolve, 1000));
      return socket.count('WATCHDOG=1') === before && before;
    });
    weftd.child.kill('SIGCONT');
    await waitFor('signs of life again', () => socket.count('WATCHDOG=1') > signs);

    weftd.child.kill('SIGHUP');
    await waitFor('the reload', () => socket.messages.some((text) => /^RELOADING=1\nMONOTONIC_USEC=\d+$/.test(text)));
    await waitFor('its end', () => socket.count('READY=1') === 2);
    assert.is(await weftd.stop(), 0);
    assert.match(socket.messages.at(-1)!, /^STOPPING=1\nSTATUS=/);
    assert.is(socket.count('STOPPING=1'), 1);
  } finally {
    socket.close();
  }
  two.startWeftd('--healthz-port', port);
  await two.reaches(cluster().hosts);
});

test('a watchdog for another process is ignored; a socket without a reader blocks nothing', async () => {
  const [, two] = cluster().hosts as [Host, Host];
  await two.weftd!.stop();
  const socket = new NotifySocket(sys, join(two.folder, 'other'));
  const environment = {
    ...(process.env as Record<string, string>),
    NOTIFY_SOCKET: socket.name,
    WATCHDOG_USEC: '20000',
  };
  two.startWeftdWith({ environment: { ...environment, WATCHDOG_PID: '1' } }, '--healthz-port', port);
  try {
    await two.reaches(cluster().hosts);
    assert.is(socket.count('READY=1'), 1);
    assert.is(socket.count('WATCHDOG=1'), 0);
    await two.weftd!.stop();
    // A queue holds net.unix.max_dgram_qlen messages, ten as a rule: it is full in no time, and is not read.
    two.startWeftdWith({ environment }, '--healthz-port', port);
    await two.reaches(cluster().hosts);
    await waitFor('a route to be healed although nobody reads', async () => {
      const [route] = readRoutes(two.namespace).filter(({ device, gateway }) => device === 'flannel.1' && gateway);
      two.ip('route', 'del', route!.destination);
      return await waitFor('it', () => (value(two, 'weftd_healed_total') ?? 0) > 0);
    });
    await waitFor('what waited to be told', () => socket.count('READY=1') === 2);
  } finally {
    socket.close();
  }
});

test('an abstract socket name works; an invalid one is reported once', async () => {
  const name = `@${cluster().scratch.prefix}-notify`;
  const socket = new NotifySocket(sys, name);
  const errors: string[] = [];
  const manager = (path: string): ServiceManager =>
    new ServiceManager({
      sys,
      environment: { NOTIFY_SOCKET: path },
      monotonic: () => 0,
      status: () => 'one\nline',
      isAlive: () => true,
      onError: (error) => errors.push(error.message),
    });
  try {
    const heard = manager(name);
    heard.ready();
    assert.equal(socket.messages, ['READY=1\nSTATUS=one line']);
    heard.stopping();
    for (const path of ['relative', '/nowhere/at/all']) {
      const silent = manager(path);
      silent.ready();
      silent.reloading();
      silent.stopping();
    }
    assert.is(errors.length, 2, errors.join());
    assert.match(errors[0]!, /NOTIFY_SOCKET is "relative"/);
    assert.match(errors[1]!, /NOTIFY_SOCKET "\/nowhere\/at\/all": ENOENT/);
  } finally {
    socket.close();
  }
});

test('no port is open unless requested, and then on the loopback address', () => {
  const [one] = cluster().hosts as [Host];
  const listening = run(['ss', '-Hlnt'], { namespace: one.namespace });
  assert.match(listening, new RegExp(`^LISTEN +0 +\\d+ +127\\.0\\.0\\.1:${port} `, 'm'));
  assert.is(listening.trim().split('\n').length, 1, listening);
});

/** A weftd beside the one that runs: it ends at once, with a line. */
function refused(host: Host, ...further: string[]): string {
  const folders = ['--run-dir', join(host.folder, 'run2'), '--state-dir', join(host.folder, 'state2')];
  const { status, stdout, stderr } = host.runWeftd(...folders, ...further);
  assert.ok(status === 1 || status === 2, `${status}: ${stdout}${stderr}`);
  const lines = stderr
    .trim()
    .split('\n')
    .filter((line) => !line.includes('"info"'));
  assert.is(lines.length, 1, stderr);
  return lines[0]!;
}

test('a taken port, a missing address: one line says what to do', () => {
  const [one] = cluster().hosts as [Host];
  assert.match(
    refused(one, '--healthz-port', port),
    /Cannot listen on \\"127\.0\.0\.1:10256\\": another program listens there; choose another port by --healthz-port/,
  );
  assert.match(
    refused(one, '--healthz-ip', '203.0.113.9', '--healthz-port', '10257'),
    /Cannot listen on \\"203\.0\.113\.9:10257\\": this host has no such address; choose another by --healthz-ip/,
  );
  assert.match(refused(one, '--healthz-ip', 'eth0', '--healthz-port', '1'), /--healthz-ip is "eth0"/);
  assert.match(refused(one, '--healthz-port', '65536'), /--healthz-port/);
  assert.ok(one.weftd!.alive);
});

test('IPv6, and every address, on request', async () => {
  const [, , three] = cluster().hosts as [Host, Host, Host];
  await three.weftd!.stop();
  three.startWeftd('--healthz-ip', '::1', '--healthz-port', port);
  await waitFor('::1', () => ask(three, '', `http://[::1]:${port}/healthz`).status === 200);
  await three.weftd!.stop();
  three.startWeftd('--healthz-ip', '0.0.0.0', '--healthz-port', port);
  const [one] = cluster().hosts as [Host];
  await waitFor('from elsewhere', () => ask(one, '', `http://${three.address}:${port}/healthz`).status === 200);
});

test.run();
