/** The executable called `flannel`: flannel's plugin, with the reference's bridge and without it. */

import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import type { PodSpace } from '../lab/bare-host.ts';
import { execute } from '../lab/commands.ts';
import { readLinks } from '../lab/kernel-state.ts';
import { bothFolders, type CallOptions, type Outcome, pluginFolder } from '../lab/plugin.ts';
import { fails, own, succeeds } from '../support/cni.ts';
import { fixture } from '../support/fixture.ts';
import { environment, type Keys, reference } from './reference.ts';
import { conformance } from './rows.ts';
import { type Site, Sites } from './site.ts';

const { before, after, test, run } = conformance('flannel');
const sites = fixture(
  { before, after },
  () => new Sites('flannel'),
  (made) => made.remove(),
);

const subnetEnv = [
  'FLANNEL_NETWORK=10.1.0.0/16',
  'FLANNEL_SUBNET=10.1.17.1/24',
  'FLANNEL_MTU=1472',
  'FLANNEL_IPMASQ=true',
];

/** A host with a subnet.env, and `flannel` on it. */
class Host {
  readonly site: Site = sites().make();
  readonly records = join(this.site.folder, 'flannel');

  constructor(lines: readonly string[] = subnetEnv) {
    writeFileSync(this.site.subnetFile, `${lines.join('\n')}\n`);
  }

  configuration(keys: Keys = {}, delegate: Keys = {}): Keys {
    const { subnetFile, dataDir } = this.site;
    return {
      cniVersion: '0.4.0',
      name: 'cbr0',
      type: 'flannel',
      subnetFile,
      dataDir: this.records,
      delegate: { bridge: 'cni0', isDefaultGateway: true, ...delegate },
      ipam: { dataDir },
      ...keys,
    };
  }

  call(command: string, pod: PodSpace, stdin: Keys, options: CallOptions = {}): Outcome {
    return this.site.call('flannel', {
      command,
      containerId: pod.id,
      netns: pod.path,
      ifname: 'eth0',
      stdin,
      ...options,
      environment: { ...environment, ...options.environment },
    });
  }

  /** The names of the records. */
  recorded(): string[] {
    return existsSync(this.records) ? readdirSync(this.records).sort() : [];
  }

  /** Nothing of the pod is left: no interface, no reservation, no record. */
  hasNothing(pod: PodSpace, network = 'cbr0'): void {
    assert.equal(readLinks(pod.namespace), []);
    assert.equal(
      readLinks(this.site.namespace).filter(({ name }) => name.startsWith('veth')),
      [],
    );
    assert.equal(this.site.reservations(network), []);
    assert.equal(this.recorded(), []);
  }

  /** A folder with a plugin that keeps its stdin as `<command>`, and answers with this script. */
  standIn(name: string, script: string): string {
    const folder = join(this.site.folder, 'bin');
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, name), `#!/bin/sh\ncat > ${this.site.folder}/$CNI_COMMAND\n${script}\n`);
    chmodSync(join(folder, name), 0o755);
    return folder;
  }

  /** What the stand-in was given. */
  given(command: string): string {
    const path = join(this.site.folder, command);
    return existsSync(path) ? readFileSync(path, 'utf8') : '';
  }
}

const result = '{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.1.17.2/24"}]}';
const withReference = { path: bothFolders };

/** Recorded from flannel's own plugin, the one with lists of networks read in its source. */
const delegated: readonly [what: string, env: readonly string[], keys: Keys, text: string][] = [
  [
    'a plain configuration without a version',
    subnetEnv,
    { cniVersion: undefined, delegate: undefined, ipam: undefined },
    '{"ipMasq":false,"ipam":{"ranges":[[{"subnet":"10.1.17.0/24"}]],"routes":[{"dst":"10.1.0.0/16"}],"type":"host-local"},"isGateway":true,"mtu":1472,"name":"cbr0","type":"bridge"}',
  ],
  [
    'two families, routes, runtimeConfig, and signs that Go escapes',
    [
      'FLANNEL_NETWORK=10.1.0.0/16',
      'FLANNEL_SUBNET=10.1.17.1/24',
      'FLANNEL_IPV6_NETWORK=fc00::/48',
      'FLANNEL_IPV6_SUBNET=fc00::1/64',
      'FLANNEL_MTU=1472',
      'FLANNEL_IPMASQ=false',
    ],
    {
      cniVersion: '0.3.1',
      delegate: { hairpinMode: true, 'x<y': 'a&b', n: 1.5, z: null },
      runtimeConfig: { portMappings: [{ hostPort: 80, containerPort: 8080, protocol: 'tcp' }], bandwidth: null },
      ipam: { unknown: 'v', routes: [{ dst: '10.96.0.0/12' }, { dst: '192.168.244.7/24', gw: '10.1.17.20' }] },
    },
    '{"cniVersion":"0.3.1","hairpinMode":true,"ipMasq":true,"ipam":{"ranges":[[{"subnet":"10.1.17.0/24"}],[{"subnet":"fc00::/64"}]],"routes":[{"dst":"10.96.0.0/12"},{"dst":"192.168.244.7/24","gw":"10.1.17.20"},{"dst":"10.1.0.0/16"},{"dst":"fc00::/48"}],"type":"host-local","unknown":"v"},"isGateway":true,"mtu":1472,"n":1.5,"name":"cbr0","runtimeConfig":{"bandwidth":null,"portMappings":[{"containerPort":8080,"hostPort":80,"protocol":"tcp"}]},"type":"bridge","x\\u003cy":"a\\u0026b","z":null}',
  ],
  [
    "the delegate's own ipMasq, mtu and isGateway",
    subnetEnv,
    { delegate: { ipMasq: true, mtu: 1300, isGateway: false, type: 'bridge' }, ipam: { type: 'weft-ipam' } },
    '{"cniVersion":"0.4.0","ipMasq":true,"ipam":{"ranges":[[{"subnet":"10.1.17.0/24"}]],"routes":[{"dst":"10.1.0.0/16"}],"type":"weft-ipam"},"isGateway":false,"mtu":1300,"name":"cbr0","type":"bridge"}',
  ],
  [
    'several networks, each once, and IPv6 alone',
    [
      'FLANNEL_IPV6_NETWORK=fd00:1::/48,fd00:2::/48,fd00:1::/48',
      'FLANNEL_IPV6_SUBNET=fd00:1:0:7::1/64',
      'FLANNEL_MTU=1400',
      'FLANNEL_IPMASQ=true',
    ],
    { delegate: {}, ipam: undefined },
    '{"cniVersion":"0.4.0","ipMasq":false,"ipam":{"ranges":[[{"subnet":"fd00:1:0:7::/64"}]],"routes":[{"dst":"fd00:1::/48"},{"dst":"fd00:2::/48"}],"type":"host-local"},"isGateway":true,"mtu":1400,"name":"cbr0","type":"bridge"}',
  ],
];

for (const [what, env, keys, text] of delegated) {
  test(`flannel gives its delegate what flannel's own plugin gives: ${what}`, () => {
    const host = new Host(env);
    const pod = host.site.addPod();
    const path = host.standIn('bridge', `[ $CNI_COMMAND != ADD ] || echo '${result}'`);
    const stdin = host.configuration(keys);
    const outcome = host.call('ADD', pod, stdin, { path });
    succeeds(outcome);
    assert.equal(JSON.parse(outcome.stdout), JSON.parse(result));
    assert.is(host.given('ADD'), text);
    assert.is(readFileSync(join(host.records, pod.id), 'utf8'), text);
    assert.is(statSync(join(host.records, pod.id)).mode & 0o777, 0o600);
    assert.is(statSync(host.records).mode & 0o777, 0o700);
    // subnet.env may be another one by now, or be gone.
    execute(['rm', host.site.subnetFile]);
    for (let i = 0; i < 2; i++) succeeds(host.call('DEL', pod, stdin, { path }));
    assert.is(host.given('DEL'), text);
    assert.equal(host.recorded(), []);
  });
}

test("flannel attaches by the reference's bridge plugin, and DEL leaves nothing", () => {
  const host = new Host();
  const [pod, other] = host.site.addPods(2) as [PodSpace, PodSpace];
  const stdin = host.configuration();
  const { ips } = succeeds(host.call('ADD', pod, stdin, withReference));
  assert.is(ips?.[0]?.address, '10.1.17.2/24');
  succeeds(host.call('ADD', other, stdin, withReference));
  assert.ok(host.site.pings(pod.namespace, '10.1.17.3'));
  assert.is(host.site.podLink(pod).mtu, 1472);
  assert.equal(host.site.reservations('cbr0'), ['10.1.17.2', '10.1.17.3']);
  for (const each of [pod, other]) succeeds(host.call('DEL', each, stdin, withReference));
  host.hasNothing(pod);
});

test('flannel attaches by its own code where there is no bridge plugin, or where it is named weft', () => {
  for (const [delegate, links] of [
    [{}, []],
    [{ type: 'weft', isGateway: true }, []],
    [{}, ['bridge']],
  ] as const) {
    const host = new Host();
    const [pod, other] = host.site.addPods(2) as [PodSpace, PodSpace];
    const stdin = host.configuration({ cniVersion: '1.0.0' }, delegate);
    let path = pluginFolder;
    if (links.length > 0) {
      // On one file system with the executable, as a hard link; else by a symbolic one.
      path = join(host.site.folder, 'own');
      mkdirSync(path);
      for (const name of links) {
        try {
          linkSync(join(pluginFolder, 'weft'), join(path, name));
        } catch {
          symlinkSync(join(pluginFolder, 'weft'), join(path, name));
        }
      }
    }
    const { ips } = succeeds(host.call('ADD', pod, stdin, { path }));
    assert.is(ips?.[0]?.address, '10.1.17.2/24');
    assert.is(ips?.[0]?.gateway, '10.1.17.1');
    succeeds(host.call('ADD', other, stdin, { path }));
    assert.ok(host.site.pings(pod.namespace, '10.1.17.3'));
    assert.is(host.site.podLink(pod).mtu, 1472);
    assert.equal(JSON.parse(readFileSync(join(host.records, pod.id), 'utf8')).ipam.type, 'host-local');
    for (const each of [pod, other]) succeeds(host.call('DEL', each, stdin, { path }));
    host.hasNothing(pod);
  }
});

test('flannel deletes the pods that the real chain has made, whichever bridge is there by then', () => {
  for (const path of [bothFolders, pluginFolder]) {
    const host = new Host();
    const pod = host.site.addPod();
    const stdin = host.configuration({}, { ipMasq: true });
    // What flannel's own plugin does, after its record.
    const record = {
      cniVersion: '0.4.0',
      name: 'cbr0',
      type: 'bridge',
      bridge: 'cni0',
      isGateway: true,
      isDefaultGateway: true,
      ipMasq: true,
      mtu: 1472,
      ipam: { type: 'host-local', dataDir: host.site.dataDir, ranges: [[{ subnet: '10.1.17.0/24' }]] },
    };
    mkdirSync(host.records);
    writeFileSync(join(host.records, pod.id), JSON.stringify(record), { mode: 0o600 });
    succeeds(reference(host.site, 'bridge', 'ADD', pod, record));
    const rules = () => host.site.execute(['iptables-save', '-t', 'nat']).stdout;
    assert.match(rules(), /10\.1\.17\.2/);
    succeeds(host.call('DEL', pod, stdin, { path }));
    assert.not.match(rules(), /10\.1\.17\.2/);
    host.hasNothing(pod);
  }
});

test('flannel keeps two attachments of one container apart', () => {
  const host = new Host();
  const pod = host.site.addPod();
  const subnetFile = join(host.site.folder, 'other.env');
  writeFileSync(subnetFile, subnetEnv.join('\n').replaceAll('10.1.', '10.2.'));
  const first = host.configuration();
  const second = host.configuration({ name: 'other', subnetFile }, { bridge: 'br1', isDefaultGateway: false });
  succeeds(host.call('ADD', pod, first, withReference));
  succeeds(host.call('ADD', pod, second, { ...withReference, ifname: 'net1' }));
  assert.equal(host.recorded(), [pod.id, `${pod.id}@net1`]);
  for (let i = 0; i < 2; i++) succeeds(host.call('DEL', pod, second, { ...withReference, ifname: 'net1' }));
  assert.equal(host.site.reservations('other'), []);
  assert.equal(host.recorded(), [pod.id]);
  succeeds(host.call('DEL', pod, first, withReference));
  host.hasNothing(pod);
});

test('flannel deletes a container whose record is lost or damaged', () => {
  const damages: readonly [what: string, damage: (path: string) => void, stays?: boolean][] = [
    ['lost', () => {}],
    ['empty', (path) => writeFileSync(path, '')],
    ['no JSON', (path) => writeFileSync(path, '{"name": "cbr0", "typ')],
    ['a list', (path) => writeFileSync(path, '[]')],
    ['a path as its type', (path) => writeFileSync(path, '{"name": "cbr0", "type": "../../bin/sh"}')],
    ['flannel as its type', (path) => writeFileSync(path, '{"name": "cbr0", "type": "flannel"}')],
    ['nested very deeply', (path) => writeFileSync(path, `{"name":"cbr0","type":"bridge","x":${'['.repeat(100_000)}`)],
    ['very large', (path) => writeFileSync(path, ' '.repeat(3 * 1024 * 1024))],
    ['a FIFO', (path) => execute(['mkfifo', path])],
    ['a folder', (path) => mkdirSync(path), true],
  ];
  for (const [what, damage, stays] of damages) {
    const host = new Host();
    const pod = host.site.addPod();
    const stdin = host.configuration({}, { ipMasq: true });
    succeeds(host.call('ADD', pod, stdin, withReference));
    const path = join(host.records, pod.id);
    execute(['rm', path]);
    damage(path);
    const outcome = host.call('DEL', pod, stdin, withReference);
    assert.is(outcome.status, 0, `${what}: ${outcome.stdout}`);
    assert.is(outcome.stdout, '', what);
    if (what === 'lost') assert.is(outcome.stderr, '');
    else assert.match(outcome.stderr, /is no record of a container/, what);
    if (stays) {
      assert.match(outcome.stderr, /stays: it is a folder; remove it by hand/);
      execute(['rmdir', path]);
    }
    host.hasNothing(pod);
    assert.not.match(host.site.execute(['iptables-save', '-t', 'nat']).stdout, /10\.1\.17\.2/, what);
  }
});

test('flannel waits for a subnet.env that is missing or incomplete, with code 11', () => {
  const cases: readonly [lines: readonly string[], text: RegExp][] = [
    [[], /does not set FLANNEL_NETWORK or FLANNEL_IPV6_NETWORK, FLANNEL_SUBNET or .*, FLANNEL_MTU, FLANNEL_IPMASQ/],
    [subnetEnv.slice(0, 3), /does not set FLANNEL_IPMASQ;/],
    [['FLANNEL_NETWORK=10.1.0.0', ...subnetEnv.slice(1)], /FLANNEL_NETWORK holds "10\.1\.0\.0"/],
    [[...subnetEnv, 'FLANNEL_MTU=many'], /MTU/],
    [[...subnetEnv, '#'.repeat(70_000)], /cannot be read/],
  ];
  for (const [lines, text] of cases) {
    const host = new Host(lines);
    const pod = host.site.addPod();
    host.site.refuses(() => host.call('ADD', pod, host.configuration(), withReference), 11, text);
    assert.equal(host.recorded(), []);
  }
  const host = new Host();
  const pod = host.site.addPod();
  execute(['rm', host.site.subnetFile]);
  fails(host.call('ADD', pod, host.configuration()), 11, /there is no such file; weftd or flanneld writes it/);
  fails(host.call('STATUS', pod, host.configuration({ cniVersion: '1.1.0' })), 50, /there is no such file/);
  execute(['mkfifo', host.site.subnetFile]);
  fails(host.call('ADD', pod, host.configuration()), 11, /FIFO/);
});

test('flannel refuses what it cannot delegate, and calls itself never', () => {
  const host = new Host();
  const pod = host.site.addPod();
  const refuses = (stdin: Keys, codes: number, text: RegExp, options: CallOptions = withReference) =>
    host.site.refuses(() => host.call('ADD', pod, stdin, options), codes, text);
  refuses(host.configuration({}, { name: 'x' }), 7, /"delegate" has the key "name"/);
  refuses(host.configuration({}, { ipam: {} }), 7, /write it beside "delegate"/);
  refuses(host.configuration({}, { type: 7 }), 7, /"delegate\.type" is 7/);
  refuses(host.configuration({}, { type: 'flannel' }), 7, /this plugin itself/);
  refuses(host.configuration({}, { type: 'weft-ipam' }), 7, /attaches no container by that name/);
  refuses(host.configuration({}, { type: '../bridge' }), 7, /not the name of a plugin/);
  refuses(host.configuration({}, { type: 'none-such' }), 50, /no plugin "none-such".*change "delegate\.type"/);
  refuses(host.configuration({ delegate: [] }), 7, /"delegate" is \[\], which is not an object/);
  refuses(host.configuration({ ipam: { routes: [{ dst: 'x' }] } }), 7, /routes\[0\]/);
  refuses(host.configuration({ dataDir: 5 }), 7, /"dataDir" is 5/);
  refuses(host.configuration({ dataDir: '/dev/null/x' }), 103, /Cannot keep the container's configuration/);
  assert.equal(host.recorded(), []);
});

test("the bridge plugin and host-local delete what Weft's code has made in their place, rules included", () => {
  const host = new Host();
  const [pod, other] = host.site.addPods(2) as [PodSpace, PodSpace];
  const stdin = host.configuration({}, { ipMasq: true });
  succeeds(host.call('ADD', pod, stdin));
  const record = JSON.parse(readFileSync(join(host.records, pod.id), 'utf8')) as Keys;
  const rules = () => host.site.execute(['iptables-save', '-t', 'nat']).stdout;
  assert.match(rules(), /10\.1\.17\.2/);
  succeeds(reference(host.site, 'bridge', 'DEL', pod, record));
  assert.not.match(rules(), /10\.1\.17\.2/);
  execute(['rm', join(host.records, pod.id)]);
  host.hasNothing(pod);
  // Without iptables it takes nf_tables.
  succeeds(host.call('ADD', other, stdin, { environment: { PATH: '/nowhere' } }));
  assert.match(host.site.execute(['nft', 'list', 'ruleset']).stdout, /cni_plugins_masquerade/);
  succeeds(host.call('DEL', other, stdin));
  host.hasNothing(other);
});

test("flannel passes its delegate's error on, and undoes what it has done", () => {
  const error = '{"cniVersion":"0.4.0","code":123,"msg":"no","details":"why"}';
  const answers: readonly [script: string, status: number, codes: number | typeof own, text: RegExp][] = [
    [`[ $CNI_COMMAND = DEL ] || { echo '${error}'; exit 1; }`, 1, 123, /no why/],
    ['[ $CNI_COMMAND = DEL ] || exit 3', 1, 109, /ended with status 3/],
    ['true', 1, 109, /succeeded without a result/],
    ['[ $CNI_COMMAND = DEL ] || echo "[1]"', 1, 109, /no JSON object/],
  ];
  for (const [script, , codes, text] of answers) {
    const host = new Host();
    const pod = host.site.addPod();
    const path = host.standIn('bridge', script);
    fails(host.call('ADD', pod, host.configuration(), { path }), codes, text);
    assert.is(host.given('DEL'), host.given('ADD'));
    assert.equal(host.recorded(), []);
  }
  // Its DEL fails, too: the record stays for the runtime's DEL.
  const host = new Host();
  const pod = host.site.addPod();
  const stdin = host.configuration({}, { type: 'other' });
  const path = host.standIn('other', `echo '${error}'; exit 1`);
  fails(host.call('ADD', pod, stdin, { path }), 123);
  assert.equal(host.recorded(), [pod.id]);
  fails(host.call('DEL', pod, stdin, { path }), 123);
  host.standIn('other', 'exit 0');
  succeeds(host.call('DEL', pod, stdin, { path }));
  assert.equal(host.recorded(), []);
});

test("flannel deletes a container although the bridge plugin's DEL fails, and says so", () => {
  const host = new Host();
  const pod = host.site.addPod();
  const stdin = host.configuration({}, { ipMasq: true });
  succeeds(host.call('ADD', pod, stdin, withReference));
  // The reference's DEL does not find its rules.
  host.site.execute(['iptables', '-t', 'nat', '-F']);
  host.site.execute(['iptables', '-t', 'nat', '-X']);
  const path = host.standIn('bridge', `printf '%s' '{"code":999,"msg":"no\\nsuch chain"}'; exit 1`);
  const outcome = host.call('DEL', pod, stdin, { path: `${path}:${bothFolders}` });
  assert.is(outcome.status, 0);
  assert.match(
    outcome.stderr,
    /^The plugin "bridge" could not delete the container: no\\nsuch chain\. Its links, .*\n$/,
  );
  host.hasNothing(pod);
});

test('flannel undoes an ADD whose result cannot be written', () => {
  for (const path of [bothFolders, pluginFolder]) {
    const host = new Host();
    const pod = host.site.addPod();
    const through = ['sh', '-c', 'exec "$0" "$@" > /dev/full'];
    const outcome = host.call('ADD', pod, host.configuration(), { path, through });
    assert.is(outcome.status, 1);
    assert.match(outcome.stderr, /"code":5/);
    host.hasNothing(pod);
  }
});

test('flannel checks, reports and collects', () => {
  const host = new Host();
  const [pod, gone, before] = host.site.addPods(3) as [PodSpace, PodSpace, PodSpace];
  const stdin = host.configuration({ cniVersion: '1.1.0' });
  succeeds(host.call('STATUS', pod, stdin));
  fails(host.call('CHECK', pod, { ...stdin, prevResult: {} }), 110, /has no record in/);
  const prevResult = succeeds(host.call('ADD', pod, stdin));
  succeeds(host.call('CHECK', pod, { ...stdin, prevResult }));
  succeeds(host.call('ADD', gone, stdin));
  // One by the real chain, which is gone, and one that lives.
  const old = { name: 'cbr0', type: 'bridge', ipam: { type: 'host-local' } };
  for (const id of ['dead', before.id]) writeFileSync(join(host.records, id), JSON.stringify(old));
  writeFileSync(join(host.records, 'foreign'), JSON.stringify({ ...old, name: 'another' }));
  host.site.writeStore('10.1.17.9', 'dead\r\neth0', 'cbr0');
  const valid = [pod, before].map(({ id }) => ({ containerID: id, ifname: 'eth0' }));
  succeeds(host.call('GC', pod, { ...stdin, 'cni.dev/valid-attachments': valid }));
  assert.equal(host.site.reservations('cbr0'), ['10.1.17.2']);
  assert.equal(host.recorded(), ['foreign', pod.id, before.id]);
  assert.equal(readLinks(gone.namespace), []);
  host.site.podIp(pod, 'link', 'del', 'eth0');
  fails(host.call('CHECK', pod, { ...stdin, prevResult }), own, /eth0/);
  // One that the reference's bridge has attached.
  const checked = host.site.addPod();
  const older = host.configuration({}, { ipMasq: true });
  const result4 = succeeds(host.call('ADD', checked, older, withReference));
  succeeds(host.call('CHECK', checked, { ...older, prevResult: result4 }, withReference));
  host.site.podIp(checked, 'link', 'del', 'eth0');
  fails(host.call('CHECK', checked, { ...older, prevResult: result4 }, withReference), own, /eth0/);
  const version = host.site.call('flannel', { command: 'VERSION' });
  assert.ok(version.document?.supportedVersions?.includes('1.1.0'));
});

run();
