/**
 * `weftctl migrate`: a host with flannel's service and chain of plugins is taken over under traffic, serves, and is given back.
 * No packet is lost, and none leaves with a container's own address. With an imitation of flanneld and its plugin; with the
 * real ones where WEFT_TEST_FLANNELD and WEFT_TEST_FLANNEL_CNI name them.
 */

import { existsSync, rmSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Family } from '../../net/address.ts';
import { Cluster } from '../lab/cluster.ts';
import { execute, run } from '../lab/commands.ts';
import { type Flannel, type Flavour, flanneldPath, flavours } from '../lab/flannel.ts';
import { flannelPlugins } from '../lab/flannel-plugin.ts';
import type { Host, Pod } from '../lab/host.ts';
import { readLinks } from '../lab/kernel-state.ts';
import { reaches, startPing } from '../lab/packets.ts';
import { Scratch } from '../lab/scratch.ts';
import { ServiceHost } from '../lab/service-host.ts';
import { type Outside, Traffic } from '../lab/traffic.ts';
import { waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

const config = { Network: '10.244.0.0/16', Backend: { Type: 'vxlan' } };

/** As kube-flannel's. */
const conflist = {
  name: 'cbr0',
  cniVersion: '0.3.1',
  plugins: [
    { type: 'flannel', delegate: { hairpinMode: true, isDefaultGateway: true } },
    { type: 'portmap', capabilities: { portMappings: true } },
  ],
};

/** In flanneld's place as a process. The test does its work when it asks for it. */
const imitation = `#!/bin/bash
trap 'kill %1; exit' TERM
mkdir -p /run/flannel
touch /run/flannel/wanted
sleep infinity &
wait
`;

/** A host with flannel's service, its plugin and its network. */
class MigrationHost extends ServiceHost {
  #flannel: Flannel | undefined;
  #timer: ReturnType<typeof setInterval> | undefined;
  #busy = false;
  /** How often the imitation has started. */
  starts = 0;

  async prepare(flavour: Flavour): Promise<void> {
    await this.boot();
    const isReal = flavour.name.startsWith('flanneld');
    this.write('/etc/cni/net.d/10-flannel.conflist', JSON.stringify(conflist));
    const plugin = flannelPlugins('migrate').find((each) => each.isReal === isReal);
    if (plugin) plugin.install(this.outside('/opt/cni/bin'));
    if (isReal) run(['cp', flanneldPath!, this.outside('/usr/local/bin/flanneld')]);
    else {
      this.write('/usr/local/bin/flanneld', imitation, 0o755);
      this.#imitate(flavour);
    }
    const words = ['/usr/local/bin/flanneld', '-etcd-endpoints', this.etcd.endpoint, '-ip-masq'];
    this.write('/etc/systemd/system/flanneld.service', `[Service]\nExecStart=${words.join(' ')}\n`);
    this.inside('systemctl', 'enable', '--now', 'flanneld.service');
    // The imitation's rules are there before its file, and its peers after it.
    await waitFor('flanneld to start', () => (isReal ? existsSync(this.subnetFile) : this.starts > 0));
  }

  #imitate(flavour: Flavour): void {
    const flannel = flavour.open(this, { ipMasq: true });
    const wanted = this.outside('/run/flannel/wanted');
    this.#flannel = flannel;
    this.#timer = setInterval(async () => {
      if (this.#busy || !existsSync(wanted)) return;
      this.#busy = true;
      rmSync(wanted);
      try {
        await flannel.start();
      } catch (error) {
        console.error(error);
      }
      this.#busy = false;
      this.starts++;
    }, 20);
  }

  /** The imitation does what etcd says now. */
  follow(): void {
    this.#flannel?.follow();
  }

  get flanneldRuns(): boolean {
    return this.executeInside('systemctl', 'is-active', 'flanneld.service').status === 0;
  }

  get flanneldIsEnabled(): boolean {
    return this.executeInside('systemctl', 'is-enabled', 'flanneld.service').status === 0;
  }

  async migrate(...words: string[]) {
    const folders = ['--bin-dir', '/opt/cni/bin', '--conf-dir', '/etc/cni/net.d'];
    return await this.release('migrate', ...folders, ...words);
  }

  /** Everything on the host and in etcd that a take-over may change. */
  listing(): string[] {
    const { namespace } = this;
    const all = (...argv: string[]): string[] => run(argv, { namespace }).split('\n');
    const rules = ['iptables-save', 'ip6tables-save', 'nft list ruleset'].flatMap((command) =>
      all(...command.split(' ')),
    );
    return (
      [
        ...this.ownFiles(),
        ...readLinks(namespace).map(
          ({ name, kind, mac, mtu, addresses }) =>
            `${name} ${kind} ${mac} ${mtu} ${addresses.filter((address) => !address.startsWith('fe80:'))}`,
        ),
        ...all('ip', 'route', 'show', 'table', 'all'),
        ...all('ip', 'neigh', 'show', 'nud', 'permanent'),
        ...all('bridge', 'fdb', 'show').filter((line) => line.includes(' dst ')),
        ...rules
          .filter((line) => !line.startsWith('#'))
          .map((line) => line.replace(/\[\d+:\d+\]/, '').replace(/packets \d+ bytes \d+/, '')),
        ...all('sysctl', '-a', '--pattern', '^net\\.ipv[46]\\.(ip_forward|conf\\.[^.]*\\.(forwarding|accept_ra))'),
        ...this.etcd.ctl('get', '--prefix', '/').split('\n'),
      ]
        .map((line) => line.trimEnd())
        // The kernel makes IPv6's local routes late, as link-local addresses, and the other host's record tells how many containers it has.
        .filter(
          (line) =>
            line !== '' && !/fe80:|"node":"host2"|last_reserved_ip|^(local|anycast) \S*:.* table local /.test(line),
        )
    );
  }

  override async halt(): Promise<void> {
    clearInterval(this.#timer);
    await waitFor('the imitation of flanneld to have started', () => !this.#busy);
    await super.halt();
  }
}

function differences(one: readonly string[], other: readonly string[]): string[] {
  const [a, b] = [new Set(one), new Set(other)];
  return [
    ...one.filter((line) => !b.has(line)).map((line) => `- ${line}`),
    ...other.filter((line) => !a.has(line)).map((line) => `+ ${line}`),
  ];
}

async function isAsBefore(host: MigrationHost, listed: readonly string[]): Promise<void> {
  const found = (): string[] => differences(listed, host.listing());
  try {
    await waitFor('the host to be as it was', () => found().length === 0);
  } catch {
    assert.equal(found(), []);
  }
}

interface Site {
  readonly cluster: Cluster;
  readonly one: MigrationHost;
  readonly two: Host;
  readonly outside: Outside;
}

interface Variant {
  readonly backend?: string;
  readonly families?: readonly Family[];
}

async function openSite(flavour: Flavour, { backend = 'vxlan', families = [4] }: Variant = {}): Promise<Site> {
  const cluster = new Cluster('migrate', { families });
  const ipv6 = families.includes(6) ? { EnableIPv6: true, IPv6Network: 'fd00:10:244::/48' } : {};
  try {
    await cluster.startEtcd();
    cluster.put('config', JSON.stringify({ ...config, ...ipv6, Backend: { Type: backend }, ...flavour.config }));
    const one = cluster.addHost(MigrationHost);
    const two = cluster.addHost();
    await one.prepare(flavour);
    two.startWeftd('--ip-masq');
    await two.reaches([one]);
    one.follow();
    for (const host of [one, two]) host.attachPods(1);
    const namespace = cluster.scratch.addNamespace('outside');
    const addresses = families.map((family) => ({ 4: '192.168.77.200', 6: 'fd77::c8' })[family]);
    cluster.underlay.connect('outside', namespace, addresses);
    return { cluster, one, two, outside: { namespace, addresses } };
  } catch (error) {
    cluster.remove();
    throw error;
  }
}

async function closeSite({ cluster, one }: Site): Promise<void> {
  await one.halt();
  cluster.remove();
}

const firstConflist = (host: MigrationHost): string =>
  host.list('/etc/cni/net.d').find((name) => name.endsWith('.conflist'))!;

function defineMigration(flavour: Flavour, variant: Variant = {}): void {
  const { backend = 'vxlan', families = [4] } = variant;
  const name = [flavour.name, variant.backend ?? [], families.length > 1 ? 'dual stack' : []].flat().join(', ');
  const test = suite(`migrate: ${name}`);
  const site = fixture(test, () => openSite(flavour, variant), closeSite);

  test(`from ${name} and back under traffic: nothing is lost, and the host is as it was`, async () => {
    const { cluster, one, two, outside } = site();
    const [here, there] = [one.pods[0]!, two.pods[0]!] as [Pod, Pod];
    for (const [from, addresses] of [
      [here, there.addresses],
      [there, here.addresses],
      [here, outside.addresses],
    ] as const) {
      for (const to of addresses) await waitFor(`${to} to be reached`, () => reaches(from.namespace, to));
    }
    const listed = one.listing();

    const check = await one.migrate('--check');
    assert.is(check.status, 0, check.stderr);
    assert.match(check.stdout, /^flanneld is process \d+, the service flanneld\.service$/m);
    assert.match(
      check.stdout,
      /^etcd at http:.*, prefix \/coreos\.com\/network: [a-z-]+, 10\.244\.0\.0\/16( fd00:10:244::\/48)?$/m,
    );
    assert.ok(check.stdout.includes(`network: ${backend}, `), check.stdout);
    assert.match(check.stdout, /^subnet 10\.244\.\d+\.0\/24.*, leased to 192\.168\.77\.\d+/m);
    assert.match(check.stdout, /^network "cbr0" of \/etc\/cni\/net\.d\/10-flannel\.conflist\n1 container$/m);
    assert.match(check.stdout, /^nothing hinders/m);
    await isAsBefore(one, listed);

    const traffic = await Traffic.start(cluster.scratch, here, there, outside);
    const taken = await one.migrate();
    assert.is(taken.status, 0, taken.stderr);
    assert.equal([one.flanneldRuns, one.flanneldIsEnabled], [false, false]);
    assert.match(firstConflist(one), /weft/);
    const rules = one.run('iptables-save') + one.run('nft', 'list', 'ruleset');
    assert.not.match(rules, /FLANNEL-|flanneld|table ip6? flannel/);
    assert.match(rules, /table inet weft/);
    // The network has its name, so that it knows the addresses of the containers that are there.
    const [made] = one.attachPods(1) as [Pod];
    assert.ok(made.address !== here.address);
    await waitFor('a new container to be reached', () => reaches(there.namespace, made.address));
    const uninstalled = await one.release('uninstall');
    assert.is(uninstalled.status, 1);
    assert.match(uninstalled.stderr, /"weftctl migrate --back" gives it back/);
    const again = await one.migrate();
    assert.is(again.status, 1);
    assert.match(again.stderr, /Weft has this host already/);

    const back = await one.migrate('--back');
    assert.is(back.status, 0, back.stderr);
    assert.match(back.stdout, /wrote flannel's records of 1 container that Weft has attached/);
    assert.equal([one.flanneldRuns, one.flanneldIsEnabled], [true, true]);
    assert.is(firstConflist(one), '10-flannel.conflist');
    one.follow();
    assert.ok(reaches(there.namespace, made.address), 'the container that Weft attached stays');
    made.detach();

    const { pings, streams, datagrams } = await traffic.stop();
    assert.is(pings.sent - pings.received, 0, 'pings lost');
    assert.equal(streams.faults, []);
    assert.ok(streams.bytes > 100_000);
    assert.equal(Object.keys(datagrams.sources).sort(), [...one.addresses].sort());
    assert.is(
      Object.values(datagrams.sources).reduce((sum, each) => sum + each, 0),
      datagrams.sent,
    );
    await isAsBefore(one, listed);
    here.detach();
    assert.equal(
      one.list('/var/lib/cni/networks/cbr0').filter((name) => /^\d+\./.test(name)),
      [],
    );
    assert.equal(one.list('/var/lib/cni/flannel'), []);
  });

  test.run();
}

function defineRefusals(flavour: Flavour): void {
  const test = suite('migrate: what hinders');
  const site = fixture(test, () => openSite(flavour), closeSite);

  /** `migrate` says this, and has changed nothing. */
  async function refuses(...patterns: RegExp[]): Promise<void> {
    const { one } = site();
    const listed = one.ownFiles();
    const { status, stderr } = await one.migrate();
    assert.is(status, 1, stderr);
    for (const pattern of patterns) assert.match(stderr, pattern);
    assert.not.match(stderr, /^\s+at /m, 'no stack');
    assert.equal(one.ownFiles(), listed);
  }

  test('a backend that Weft does not run, and a config that is missing or wrong', async () => {
    const { cluster } = site();
    const before = cluster.get('config');
    const configure = (backend: string): void => cluster.put('config', before.replace('"vxlan"', backend));
    configure('"wireguard"');
    await refuses(
      /^weftctl: Cannot take this host over from flannel: something hinders, and nothing was changed$/m,
      /^ {2}The network's backend is "wireguard", which Weft does not run; it runs .*\n {4}→ change the backend of the whole/m,
    );
    configure('7');
    await refuses(/Backend\.Type/, /→ mend it with "weftctl config set"/);
    cluster.etcdctl('del', '/coreos.com/network/config');
    await refuses(/There is no network config at ".*\/config" in etcd's v3 API\n.*weftctl config import-v2/);
    cluster.put('config', before);
  });

  test("a lease that is not this host's, and a subnet.env that cannot be read", async () => {
    const { cluster, one } = site();
    const own = one.read('/run/flannel/subnet.env');
    one.write('/run/flannel/subnet.env', own.replace(/^FLANNEL_SUBNET=.*$/m, 'FLANNEL_SUBNET=10.244.200.1/24'));
    await refuses(/etcd has no lease of this host's subnet 10\.244\.200\.0\/24: weftd would take another one/);
    one.inside('rm', '/run/flannel/subnet.env');
    await refuses(/There is no file "\/run\/flannel\/subnet\.env"/);
    one.inside('mkfifo', '/run/flannel/subnet.env');
    await refuses(/Cannot read "\/run\/flannel\/subnet\.env": .*no regular file/);
    one.inside('rm', '/run/flannel/subnet.env');
    one.write('/run/flannel/subnet.env', own);
    // An entry that cannot be read is told; it hinders nothing.
    cluster.put('subnets/odd', 'x');
    const { status, stdout } = await one.migrate('--check');
    assert.is(status, 0);
    assert.match(stdout, /^1 entry in etcd cannot be read; Weft skips them$/m);
    cluster.etcdctl('del', '/coreos.com/network/subnets/odd');
  });

  test('an etcd that does not answer', async () => {
    const { cluster } = site();
    await cluster.stopEtcd();
    await refuses(/in etcd at http:.*: connection refused/, /→ weftd needs etcd as flanneld does/);
    await cluster.startEtcd();
  });

  test('a weftd that does not get ready: flanneld has the host again, as it was', async () => {
    const { one } = site();
    const unit = one.read('/etc/systemd/system/flanneld.service');
    // The imitation does not look for the interface; weftd waits for it.
    one.write('/etc/systemd/system/flanneld.service', unit.replace('-ip-masq', '-ip-masq -iface none0'));
    const { starts } = one;
    one.inside('systemctl', 'restart', 'flanneld.service');
    await waitFor('flanneld to start', () => one.starts > starts);
    const listed = one.listing();
    const { status, stdout, stderr } = await one.migrate('--timeout', '2');
    assert.is(status, 1, stdout);
    assert.match(stderr, /This host is not ready after 2 s: .*none0/);
    assert.match(stderr, /^weftctl: flanneld\.service has this host again, as it was$/m);
    assert.equal([one.flanneldRuns, one.flanneldIsEnabled], [true, true]);
    await isAsBefore(one, listed);
    one.write('/etc/systemd/system/flanneld.service', unit);
    const before = one.starts;
    one.inside('systemctl', 'restart', 'flanneld.service');
    await waitFor('flanneld to start', () => one.starts > before);
    one.follow();
  });

  test('a take-over and a return that are killed in between go on when they are called again', async () => {
    const { cluster, one, two } = site();
    const [here, there] = [one.pods[0]!, two.pods[0]!] as [Pod, Pod];
    await waitFor(`${there.address} to be reached`, () => reaches(here.namespace, there.address));
    const listed = one.listing();
    const pings = startPing(cluster.scratch, here.namespace, there.address, 10);
    const killed = async (point: string, ...words: string[]): Promise<void> => {
      one.write('/run/services/kill', point);
      assert.is((await one.migrate(...words)).status, null, point);
    };
    await killed('disable flanneld.service');
    assert.match((await one.migrate('--check')).stderr, /flanneld was stopped by an earlier "weftctl migrate"/);
    const taken = await one.migrate();
    assert.is(taken.status, 0, taken.stderr);
    assert.match(taken.stdout, /^going on with the take-over from flanneld\.service that was interrupted$/m);
    await killed('disable weftd.service', '--back');
    await killed('start flanneld.service', '--back');
    const back = await one.migrate('--back');
    assert.is(back.status, 0, back.stderr);
    one.follow();
    const { sent, received } = await pings.stop();
    assert.is(sent - received, 0, 'pings lost');
    await isAsBefore(one, listed);
  });

  test('a flanneld that is no service, or that has options of former flannels, and none at all', async () => {
    const { one } = site();
    one.inside('systemctl', 'stop', 'flanneld.service');
    const back = await one.migrate('--back');
    assert.is(back.status, 1);
    assert.match(back.stderr, /"weftctl migrate" has not taken it from flannel\n {2}for a host without flannel/);
    await refuses(/No flanneld runs on this host\n {2}start it/);
    const { starts } = one;
    one.inside('sh', '-c', 'setsid /usr/local/bin/flanneld -remote=192.0.2.1:8888 > /dev/null 2>&1 &');
    await waitFor('flanneld to start', () => one.starts > starts);
    await refuses(
      /2 things hinder, and nothing was changed/,
      /flanneld \(process \d+\) is no service of systemd/,
      /Option --remote belongs to flanneld's client and server mode/,
    );
  });

  test.run();
}

/** Debian's stock kernel has it: see CONTRIBUTING.md on the guest. */
function hasIpip(): boolean {
  const scratch = new Scratch('ipip');
  const namespace = scratch.addNamespace('try');
  const { status } = execute(['ip', 'link', 'add', 'try', 'type', 'ipip', 'local', '192.0.2.1'], { namespace });
  scratch.remove();
  return status === 0;
}

const all = flavours('migrate');
for (const flavour of all) defineMigration(flavour);
// The real one alone: what a take-over does is the same for each backend.
const real = all.find(({ name }) => name === 'flanneld');
if (real) {
  defineMigration(real, { families: [4, 6] });
  defineMigration(real, { backend: 'host-gw' });
  if (hasIpip()) defineMigration(real, { backend: 'ipip' });
  else console.log('\n  migrate: the backend "ipip" is left out: this kernel has no such device');
}
defineRefusals(all[0]!);
