/**
 * etcd with client certificates and roles: weftd works with exactly the rights in SECURITY.md. If one is missing, weftd
 * names it, and the command that it prints helps.
 */

import { copyFileSync, readFileSync } from 'node:fs';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Cluster } from '../lab/cluster.ts';
import { execute } from '../lab/commands.ts';
import type { Host } from '../lab/host.ts';
import { exampleConfig } from '../lab/project.ts';
import { waitFor } from '../lab/wait.ts';
import { CertificateAuthority } from '../support/certificates.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('rights');

/** As SECURITY.md gives them; a test below compares. */
const grants = {
  config: 'etcdctl role grant-permission weft read /coreos.com/network/config',
  subnets: 'etcdctl role grant-permission --prefix weft readwrite /coreos.com/network/subnets/',
  nodes: 'etcdctl role grant-permission --prefix weft readwrite /coreos.com/network/nodes/',
};
const prefix = '/coreos.com/network';

interface Secured {
  readonly cluster: Cluster;
  readonly authority: CertificateAuthority;
  readonly stranger: CertificateAuthority;
}

async function setUp(): Promise<Secured> {
  const cluster = new Cluster('rights', { tls: true });
  try {
    const folder = cluster.scratch.makeFolder('tls');
    const authority = new CertificateAuthority(folder, 'authority');
    const names = `DNS:localhost,IP:127.0.0.1,IP:${cluster.underlay.gateway}`;
    cluster.useTls({
      caFile: authority.caFile,
      server: authority.issue('server', { commonName: 'etcd', names }),
      client: authority.issue('root', { commonName: 'root' }),
    });
    await cluster.startEtcd('--bcrypt-cost', '4');
    cluster.put('config', readFileSync(exampleConfig, 'utf8'));
    for (const line of ['user add root:secret', 'user grant-role root root', 'role add weft']) does(cluster, line);
    for (const line of ['user add weft --no-password', 'user grant-role weft weft']) does(cluster, line);
    for (const line of ['user add bob:secret', 'user grant-role bob weft', ...Object.values(grants)])
      does(cluster, line);
    cluster.etcdctl('auth', 'enable');
    return { cluster, authority, stranger: new CertificateAuthority(folder, 'stranger') };
  } catch (error) {
    cluster.remove();
    throw error;
  }
}

/** A command of etcdctl's as a person would type it. */
const does = (cluster: Cluster, line: string): string => cluster.etcdctl(...line.replace(/^etcdctl /, '').split(' '));

const secured = fixture(test, setUp, ({ cluster }) => cluster.remove());

interface Login {
  readonly certFile: string;
  readonly keyFile: string;
}

function optionsOf(login: Partial<Login>, caFile = secured().authority.caFile): string[] {
  const { certFile, keyFile } = login;
  return [
    ...['--etcd-cafile', caFile],
    ...(certFile && keyFile ? ['--etcd-certfile', certFile, '--etcd-keyfile', keyFile] : []),
  ];
}

/** A new host whose weftd comes as `commonName`. */
function startAs(commonName: string): Host {
  const { cluster, authority } = secured();
  const host = cluster.addHost();
  host.startWeftd(...optionsOf(authority.issue(host.name, { commonName })));
  return host;
}

const linesWith = (host: Host, part: string): string[] => host.log.split('\n').filter((line) => line.includes(part));

/** @returns the one line of the log that holds `part` */
async function says(host: Host, part: string): Promise<string> {
  await waitFor(`"${part}" in the log of ${host.name}`, () => {
    if (!host.weftd?.alive) throw new Error(`weftd has ended:\n${host.log}`);
    return linesWith(host, part).length > 0;
  });
  assert.is(linesWith(host, part).length, 1, host.log);
  return linesWith(host, part)[0]!;
}

/** The command at the end of a message. */
const commandIn = (line: string): string => /grant it: ([^;]+)/.exec(line)![1]!;

test('SECURITY.md names these rights', () => {
  const text = readFileSync(new URL('../../SECURITY.md', import.meta.url), 'utf8');
  for (const command of Object.values(grants)) assert.ok(text.includes(`${command}\n`), command);
});

test('with exactly these rights weftd claims, publishes, follows, renews and leaves', async () => {
  const { cluster } = secured();
  const one = startAs('weft');
  // Renewed all the time.
  const { authority } = secured();
  const two = cluster.addHost();
  const environment = { ...process.env, WEFTD_TEST_LEASE_TTL_SECONDS: '6' } as Record<string, string>;
  two.startWeftdWith({ environment }, ...optionsOf(authority.issue(two.name, { commonName: 'weft' })));
  await one.reaches([two]);
  await two.reaches([one]);
  await waitFor('the lease to be renewed', () => linesWith(two, 'lease renewed').length > 0, { deadlineMs: 15_000 });
  await waitFor('both to be alive in etcd', () => {
    const { stdout } = one.weftctl('nodes', '--json');
    return (JSON.parse(stdout) as { nodes: { alive?: boolean }[] }).nodes.filter(({ alive }) => alive).length === 2;
  });
  assert.equal(one.status().problems, []);

  // The network config is weftctl's to write, with a right of its own.
  const config = cluster.get('config');
  const refused = one.weftctl('config', 'set', '--force', config.replace('}', ' }'));
  assert.is(refused.status, 1);
  assert.match(
    refused.stderr,
    /may not write "\/coreos\.com\/network\/config"; grant it: etcdctl role grant-permission/,
  );
  const granted = /grant it: (.*)/.exec(refused.stderr)![1]!;
  assert.is(granted, 'etcdctl role grant-permission weft readwrite /coreos.com/network/config');

  const left = two.runWeftd(
    '--leave',
    ...optionsOf({
      certFile: `${cluster.scratch.folder}/tls/${two.name}.pem`,
      keyFile: `${cluster.scratch.folder}/tls/${two.name}-key.pem`,
    }),
  );
  assert.is(left.status, 0, left.stderr);
  await one.waitForStatus('host1 to forget it', ({ peers }) => peers.length === 0);
  await one.weftd!.stop();
});

test('the same works with user and password', async () => {
  const host = secured().cluster.addHost();
  // A certificate is wanted all the same; the user's name outdoes its own.
  const login = secured().authority.issue(host.name, { commonName: 'nobody' });
  const environment = { ...process.env, WEFTD_ETCD_PASSWORD: 'secret' } as Record<string, string>;
  host.startWeftdWith({ environment }, ...optionsOf(login), '--etcd-username', 'bob');
  await host.reaches([]);
  assert.not.match(host.log, /secret/);
  await host.weftd!.stop();
});

for (const [what, right, pattern] of [
  ['reading the config', 'config', 'may not read "/coreos.com/network/config"'],
  ['reading leases', 'subnets', 'may not read what is below "/coreos.com/network/subnets/"'],
  ['writing leases', 'subnets', 'may not write what is below "/coreos.com/network/subnets/"'],
] as const) {
  test(`without the right of ${what}: the message names it, and its command grants it`, async () => {
    const { cluster } = secured();
    const grant = grants[right];
    const ends = right === 'config' ? [] : [`${prefix}/subnets0`];
    cluster.etcdctl('role', 'revoke-permission', 'weft', `${prefix}/${right}${right === 'config' ? '' : '/'}`, ...ends);
    if (what === 'writing leases') does(cluster, grant.replace('readwrite', 'read'));
    const host = startAs('weft');
    const line = await says(host, pattern);
    assert.match(line, /user "weft", in role "weft",/);
    assert.match(line, new RegExp(`in etcd at ${cluster.etcdEndpoint}:`));
    does(cluster, commandIn(line));
    if (what === 'reading leases') {
      // It was granted what it asked for; now it wants to write.
      does(cluster, commandIn(await says(host, 'may not write what is below')));
    }
    await host.reaches([]);
    assert.equal(host.status().problems, []);
    await host.weftd!.stop();
    does(cluster, grant);
  });
}

for (const access of ['read', 'write'] as const) {
  test(`without the right to ${access} liveness records: weftd works, and reports the missing right`, async () => {
    const { cluster } = secured();
    cluster.etcdctl('role', 'revoke-permission', 'weft', `${prefix}/nodes/`, `${prefix}/nodes0`);
    if (access === 'write') does(cluster, grants.nodes.replace('readwrite', 'read'));
    const host = startAs('weft');
    await host.waitForStatus('weftd to run', ({ state }) => ['running', 'degraded'].includes(state));
    const line = await says(host, `may not ${access} what is below "${prefix}/nodes/"`);
    assert.match(line, /live nodes may be shown as down/);
    assert.is(host.status().problems.length, 1);
    assert.ok(host.status().etcd.connected !== undefined);
    does(cluster, grants.nodes);
    await host.waitForStatus('the problem to be over', ({ problems }) => problems.length === 0, { deadlineMs: 20_000 });
    await host.weftd!.stop();
  });
}

test('an unknown user, a user without a role, a certificate without a name: weftd reports each', async () => {
  const { cluster, authority } = secured();
  const unknown = startAs('eve');
  const line = await says(unknown, 'etcd has no user "eve"; add it: etcdctl user add eve --no-password && ');
  cluster.etcdctl('user', 'add', 'eve', '--no-password');
  await says(unknown, 'user "eve" has no role; give it one');
  does(cluster, /&& (etcdctl user grant-role eve weft)/.exec(line)![1]!);
  await unknown.reaches([]);
  await unknown.weftd!.stop();

  const nameless = cluster.addHost();
  nameless.startWeftd(...optionsOf(authority.issue(nameless.name)));
  await says(nameless, `${nameless.name}.pem" has no common name, which is etcd's name of the user`);
  await nameless.weftd!.stop();
});

test('no certificate, an expired one, one of another authority, another authority for etcd: weftd reports each', async () => {
  const { cluster, authority, stranger } = secured();
  const host = cluster.addHost();
  const expired = authority.issue('expired', { commonName: 'weft', isExpired: true });
  const foreign = stranger.issue('foreign', { commonName: 'weft' });
  const good = authority.issue('good', { commonName: 'weft' });
  for (const [options, pattern] of [
    [optionsOf({}), /it wants a client certificate; give one by --etcd-certfile and --etcd-keyfile/],
    [optionsOf(expired), /client certificate "\S+expired\.pem" has expired on \d{4}-\d\d-\d\d; replace it/],
    [optionsOf(foreign), /it refuses the client certificate "\S+foreign\.pem", issued by "stranger"; its issuer must/],
    [
      optionsOf(good, stranger.caFile),
      /no authority in "\S+stranger\.pem" \(--etcd-cafile\) has signed etcd's certificate/,
    ],
    [optionsOf({ ...good, keyFile: expired.keyFile }), /expired-key\.pem" \(--etcd-keyfile\): it is not the key of/],
    [
      optionsOf({ ...good, certFile: exampleConfig }),
      /network-config\.json" \(--etcd-certfile\): it holds no certificate/,
    ],
  ] as const) {
    const weftd = host.startWeftd(...options);
    await waitFor(`${pattern} in the log`, () => pattern.test(host.log));
    assert.is(host.log.split('\n').filter((line) => pattern.test(line)).length, 1, host.log);
    await weftd.stop();
  }
});

test('weftd uses replaced certificates from its next connection on, also those of another authority', async () => {
  const { cluster, authority, stranger } = secured();
  const host = cluster.addHost();
  const old = authority.issue(host.name, { commonName: 'weft' });
  const ca = `${cluster.scratch.folder}/tls/trusted.pem`;
  copyFileSync(authority.caFile, ca);
  host.startWeftd(...optionsOf(old, ca));
  await host.reaches([]);
  const { pid } = host.weftd!;

  // Everything is the other authority's from now on.
  const young = stranger.issue('young', { commonName: 'weft' });
  await cluster.stopEtcd();
  cluster.useTls({
    caFile: stranger.caFile,
    server: stranger.issue('young-server', {
      commonName: 'etcd',
      names: `IP:127.0.0.1,IP:${cluster.underlay.gateway}`,
    }),
    client: stranger.issue('young-root', { commonName: 'root' }),
  });
  await cluster.startEtcd('--bcrypt-cost', '4');
  await host.waitForStatus('weftd to notice', ({ etcd }) => etcd.connected === false);
  // One after the other, as by hand: what is half done is waited out.
  copyFileSync(stranger.caFile, ca);
  copyFileSync(young.certFile, old.certFile);
  await host.waitForStatus(
    'half of it to be told',
    ({ problems }) => /it is not the key of the certificate/.test(problems.join()),
    {
      deadlineMs: 20_000,
    },
  );
  copyFileSync(young.keyFile, old.keyFile);
  await host.waitForStatus('weftd to be back', ({ etcd, state }) => etcd.connected && state === 'running', {
    deadlineMs: 20_000,
  });
  cluster.put('subnets/10.244.250.0-24', '{"PublicIP":"192.168.77.250","BackendType":"host-gw"}');
  await host.waitForStatus('what is written after it', ({ peers }) => peers.length > 0);
  assert.is(host.weftd!.pid, pid);
  assert.is(execute(['kill', '-0', String(pid)]).status, 0);
  await host.weftd!.stop();
});

test.run();
