import { spawn } from 'node:child_process';
import { chmodSync, existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { type CallOptions, callPlugin, type Program, pluginFolder } from '../lab/plugin.ts';
import { fails, succeeds } from '../support/cni.ts';
import { fixture } from '../support/fixture.ts';
import { hasCheck, readResult, version, versions } from '../support/versions.ts';
import { conformance } from './rows.ts';
import { type Site, Sites } from './site.ts';

const programs = ['weft', 'weft-ipam'] as const;

const { before, after, row, test, run } = conformance('protocol');
const sites = fixture(
  { before, after },
  () => new Sites('protocol'),
  (made) => made.remove(),
);

/** A complete call that would work; `changes` spoil it. */
function request(site: Site, command: string, changes: CallOptions = {}): CallOptions {
  return {
    command,
    containerId: 'c1',
    netns: site.pods[0]?.path ?? site.addPod().path,
    ifname: 'eth0',
    stdin: site.bridge(),
    ...changes,
  };
}

/** Each program in turn refuses the call, with nothing left behind by either. */
function bothRefuse(
  site: Site,
  code: number | readonly number[],
  text: RegExp | undefined,
  command: string,
  changes: CallOptions = {},
): void {
  const options = request(site, command, changes);
  const bothFail = () => {
    fails(site.call('weft', options), code, text);
    return site.call('weft-ipam', options);
  };
  site.refuses(bothFail, code, text);
}

row(1, () => {
  for (const program of programs) {
    const outcome = callPlugin(program, { path: null });
    assert.is(outcome.status, 0);
    assert.is(outcome.stdout, '');
    assert.match(outcome.stderr, new RegExp(program));
    for (const known of versions) assert.ok(outcome.stderr.includes(known), `${known} in ${outcome.stderr}`);
  }
});

row(2, () => {
  for (const program of programs) {
    for (const stdin of ['', '{', 'no JSON\n', '[]']) {
      const document = succeeds(callPlugin(program, { command: 'VERSION', path: null, stdin }));
      assert.equal(document.supportedVersions, versions);
      assert.type(document.cniVersion, 'string');
    }
    // Podman's call.
    const dummies = { netns: 'dummy', ifname: 'dummy', path: 'dummy' };
    const podman = callPlugin(program, { command: 'VERSION', ...dummies, stdin: { cniVersion: version() } });
    assert.equal(succeeds(podman), { cniVersion: version(), supportedVersions: versions });
  }
});

test('VERSION does not wait for the end of stdin', async () => {
  const child = spawn(join(pluginFolder, 'weft'), { env: { CNI_COMMAND: 'VERSION' } });
  const status = await new Promise((resolve) => {
    const timer = setTimeout(() => child.kill('SIGKILL'), 5000);
    child.on('exit', (code, signal) => {
      clearTimeout(timer);
      resolve(code ?? signal);
    });
  });
  child.stdin.destroy();
  assert.is(status, 0);
});

row(3, () => {
  const site = sites().make();
  for (const command of ['NONSENSE', 'add', 'UPDATE']) bothRefuse(site, 4, new RegExp(command), command);
});

row(4, () => bothRefuse(sites().make(), 6, undefined, 'NONSENSE', { stdin: '' }));

row(5, () => {
  const site = sites().make();
  const missing = { containerId: undefined, netns: undefined, ifname: undefined, path: null };
  bothRefuse(site, 4, /CNI_CONTAINERID.*CNI_NETNS.*CNI_IFNAME.*CNI_PATH/, 'ADD', missing);
  bothRefuse(site, 4, /CNI_NETNS.*CNI_PATH/, 'ADD', { netns: '', path: '' });
  bothRefuse(site, 4, /CNI_CONTAINERID.*CNI_IFNAME/, 'DEL', { containerId: undefined, ifname: undefined });
});

row(6, () => {
  const site = sites().make();
  for (const program of programs) succeeds(site.call(program, request(site, 'DEL', { netns: undefined })));
  for (const program of programs) succeeds(site.call(program, request(site, 'DEL', { netns: '' })));
});

row(7, () => bothRefuse(sites().make(), 4, /CNI_NETNS/, 'CHECK', { netns: undefined }));

row(8, () => {
  const site = sites().make();
  const stdin = site.bridge({ 'cni.dev/valid-attachments': [] });
  for (const program of programs) {
    const outcome = site.call(program, { command: 'GC', stdin });
    assert.equal(succeeds(outcome), {});
    assert.is(outcome.stdout, '');
  }
});

row(9, () => {
  const site = sites().make();
  for (const command of ['GC', 'STATUS']) bothRefuse(site, 4, /CNI_PATH/, command, { path: null });
});

row(10, () => {
  const site = sites().make();
  for (const containerId of ['%%', '-a', 'a\n', 'a b', '.a', 'a/../b']) {
    for (const command of ['ADD', 'CHECK', 'DEL']) bothRefuse(site, 4, /CNI_CONTAINERID/, command, { containerId });
  }
});

row(11, () => {
  const site = sites().make();
  bothRefuse(site, 4, /CNI_IFNAME/, 'ADD', { ifname: 'eth4567890123456' });
  succeeds(site.call('weft-ipam', request(site, 'ADD', { ifname: 'eth456789012345' })));
});

row(12, () => {
  const site = sites().make();
  for (const ifname of ['.', '..']) bothRefuse(site, 4, /CNI_IFNAME/, 'ADD', { ifname });
});

row(13, () => {
  const site = sites().make();
  for (const ifname of ['a/b', 'a:b', 'a b', 'a\tb', 'a\n']) bothRefuse(site, 4, /CNI_IFNAME/, 'ADD', { ifname });
});

row(14, () => {
  const site = sites().make();
  // Reading a folder is EISDIR.
  bothRefuse(site, 5, undefined, 'ADD', { stdinFile: site.folder });
});

row(15, () => {
  const site = sites().make();
  for (const stdin of ['', ' \n', '{', '{"cniVersion":"1.0.0","name":"net"', '[]', '"x"', 'null', '7', '{} {}']) {
    bothRefuse(site, 6, undefined, 'ADD', { stdin });
  }
});

row(16, () => {
  const site = sites().make();
  bothRefuse(site, 7, /name/, 'ADD', { stdin: site.bridge({ name: undefined }) });
  bothRefuse(site, 7, /name/, 'ADD', { stdin: site.bridge({ name: '' }) });
});

row(17, () => {
  const site = sites().make();
  for (const name of ['a b', '-a', '../a', 'a\n']) bothRefuse(site, 7, /name/, 'ADD', { stdin: site.bridge({ name }) });
});

row(18, () => {
  const site = sites().make();
  bothRefuse(site, 6, /name/, 'ADD', { stdin: site.bridge({ name: 5 }) });
  bothRefuse(site, 6, /cniVersion/, 'ADD', { stdin: site.bridge({ cniVersion: 1 }) });
});

row(19, () => {
  for (const cniVersion of [undefined, '']) {
    const site = sites().make();
    const document = succeeds(site.call('weft-ipam', request(site, 'ADD', { stdin: site.bridge({ cniVersion }) })));
    assert.is(document.cniVersion, '0.1.0');
    assert.is(document.ip4?.ip, '10.1.2.2/24');
  }
});

row(20, () => {
  const site = sites().make();
  for (const cniVersion of ['9.9.9', '1.0', '0.4.1']) {
    const options = request(site, 'ADD', { stdin: site.bridge({ cniVersion }) });
    for (const program of programs) {
      const { details } = site.refuses(() => site.call(program, options), 1);
      assert.ok(details?.includes(cniVersion), details);
      assert.ok(details?.includes('0.3.1'), details);
    }
  }
});

/** CHECK of a sound attachment by this version. */
function checkAt(site: Site, cniVersion: string): CallOptions {
  const prevResult = { cniVersion, ips: [{ version: '4', address: '10.1.2.2/24' }] };
  return request(site, 'CHECK', { stdin: site.bridge({ cniVersion, prevResult }) });
}

row(21, () => {
  const site = sites().make();
  for (const program of programs) site.refuses(() => site.call(program, checkAt(site, version())), 1);
});

row(22, () => {
  const site = sites().make();
  for (const program of programs) site.refuses(() => site.call(program, checkAt(site, '1.2.0')), 1);
});

row(23, () => {
  const site = sites().make();
  for (const program of programs) site.refuses(() => site.call(program, checkAt(site, 'asdf')), 6);
});

row(24, () => {
  const site = sites().make();
  for (const command of ['GC', 'STATUS']) bothRefuse(site, 1, /1\.1\.0/, command);
});

row(25, () => {
  const site = sites().make();
  const pod = site.addPod();
  const error = { cniVersion: version(), code: 123, msg: 'No more marbles', details: 'the bag is empty', bag: [7] };
  const plugin = join(site.folder, 'marbles');
  writeFileSync(
    plugin,
    `#!/bin/sh\ncat > /dev/null\n[ "$CNI_COMMAND" = ADD ] || exit 0\necho '${JSON.stringify(error)}'\nexit 1\n`,
  );
  chmodSync(plugin, 0o755);
  const stdin = { ...site.bridge(), ipam: { type: 'marbles' } };
  const path = `${pluginFolder}:${site.folder}`;
  // The bridge, which is the host's, is there by then, and stays.
  const document = site.refuses(() => site.weft('ADD', pod, stdin, { path }), 123, undefined, [pod.namespace]);
  assert.equal(document, error);
});

row(26, () => {
  const site = sites().make();
  const pod = site.addPod();
  for (const netns of ['/proc/self/ns/net', `/run/netns/${site.namespace}`]) {
    site.refuses(() => site.weft('ADD', pod, site.bridge(), { netns }), 8);
    site.refuses(() => site.call('weft-ipam', request(site, 'ADD', { netns })), 8);
  }
  assert.not(existsSync(join(site.dataDir, 'net')), 'not even the store is made');
});

row(27, () => {
  for (const value of ['TRUE', '1', 'true']) {
    const site = sites().make();
    const environment = { CNI_NETNS_OVERRIDE: value };
    const options = request(site, 'ADD', { netns: `/run/netns/${site.namespace}`, environment });
    assert.is(readResult(succeeds(site.call('weft-ipam', options))).ips?.[0]?.address, '10.1.2.2/24');
  }
  const site = sites().make();
  const environment = { CNI_NETNS_OVERRIDE: '0' };
  fails(site.call('weft-ipam', request(site, 'ADD', { netns: `/run/netns/${site.namespace}`, environment })), 8);
});

row(28, () => {
  const routes = [{ dst: '192.168.0.0/16' }, { dst: '10.7.0.0/16', gw: '10.1.2.9' }];
  const wholeRoutes = [{ dst: '192.168.0.0/16' }, { dst: '10.7.0.0/16', gw: '10.1.2.9' }];
  const ranges = [[{ subnet: '10.1.2.0/24' }], [{ subnet: 'fd00:1::/64' }]];
  const cniVersion = version();
  const site = sites().make();
  const pod = site.addPod();
  const configuration = site.bridge({ cniVersion, isGateway: true }, { ranges, routes });
  const ofIpam = succeeds(site.call('weft-ipam', request(site, 'ADD', { stdin: configuration })));
  const ofWeft = succeeds(site.weft('ADD', pod, configuration));
  for (const [program, document, first] of [
    ['weft-ipam', ofIpam, 2],
    ['weft', ofWeft, 3],
  ] as const) {
    const what = `${program} ${cniVersion}: ${JSON.stringify(document)}`;
    const [v4, v6] = [`10.1.2.${first}/24`, `fd00:1::${first}/64`];
    assert.is(document.cniVersion, cniVersion, what);
    if (cniVersion < '0.3.0') {
      assert.equal(Object.keys(document).sort(), ['cniVersion', 'dns', 'ip4', 'ip6'], what);
      assert.equal(document.ip4, { ip: v4, gateway: '10.1.2.1', routes: wholeRoutes }, what);
      assert.is(document.ip6?.ip, v6, what);
      assert.is(document.ip6?.gateway, 'fd00:1::1', what);
      continue;
    }
    const interfaceIndex = program === 'weft' ? { interface: 2 } : {};
    const versionOf = (family: string) => (cniVersion < '1.0.0' ? { version: family } : {});
    assert.equal(
      document.ips,
      [
        { ...versionOf('4'), ...interfaceIndex, address: v4, gateway: '10.1.2.1' },
        { ...versionOf('6'), ...interfaceIndex, address: v6, gateway: 'fd00:1::1' },
      ],
      what,
    );
    assert.equal(document.routes, wholeRoutes, what);
    assert.is('interfaces' in document, program === 'weft', what);
    if (program === 'weft') {
      assert.is(document.interfaces?.length, 3, what);
      for (const entry of document.interfaces!) {
        const known = cniVersion === '1.1.0' ? ['mac', 'mtu', 'name', 'sandbox'] : ['mac', 'name', 'sandbox'];
        assert.equal(
          Object.keys(entry).filter((key) => !known.includes(key)),
          [],
          what,
        );
      }
    }
    if (cniVersion < '1.0.0') assert.equal(document.dns, {}, what);
    else assert.not('dns' in document, what);
  }
});

row(29, () => {
  const site = sites().make();
  const pod = site.addPod();
  const configuration = site.bridge();
  const { cniVersion: _, ...prevResult } = site.add(pod, configuration);
  succeeds(site.check(pod, configuration, prevResult));
});

row(30, () => {
  const site = sites().make();
  const pod = site.addPod();
  const result = site.add(pod, site.bridge());
  for (const cniVersion of version() < '1.0.0' ? ['0.2.0', '1.0.0'] : ['0.2.0', '0.3.1', '0.4.0']) {
    site.refuses(() => site.check(pod, site.bridge(), { ...result, cniVersion }), [1, 6, 7]);
  }
});

row(31, () => {
  const site = sites().make();
  const further = { capabilities: { portMappings: true, HostPort: true }, colour: 'red', args: { labels: [1] } };
  const configuration = site.bridge(further, { subnet: '10.1.2.0/24', flavour: 'salty' });
  const pod = site.addPod();
  const runtimeConfig = { portMappings: [{ hostPort: 80, containerPort: 80 }], bandwidth: { ingressRate: 1 } };
  const result = site.add(pod, { ...configuration, runtimeConfig });
  if (hasCheck()) succeeds(site.check(pod, { ...configuration, runtimeConfig }, result));
  site.delete(pod, { ...configuration, runtimeConfig, prevResult: result });
});

row(32, () => {
  bothRefuse(sites().make(), 4, /FOO/, 'ADD', { args: 'FOO=BAR' });
});

row(33, () => {
  const site = sites().make();
  const pod = site.addPod();
  const args = 'K8S_POD_NAME=a;IgnoreUnknown=1;K8S_POD_NAMESPACE=b;K8S_POD_INFRA_CONTAINER_ID=c;K8S_POD_UID=d';
  site.add(pod, site.bridge(), { args });
  site.delete(pod, site.bridge(), { args });
  for (const value of ['1', 'true', 'TRUE']) {
    succeeds(
      site.call(
        'weft-ipam',
        request(site, 'ADD', { containerId: `c${value}`, args: `FOO=BAR;IgnoreUnknown=${value}` }),
      ),
    );
  }
});

row(34, () => {
  const site = sites().make();
  for (const args of ['FOO', 'IgnoreUnknown=1;FOO', 'IP=10.1.2.9;', 'IgnoreUnknown=1;']) {
    bothRefuse(site, 4, /CNI_ARGS/, 'ADD', { args });
  }
});

row(35, () => {
  const site = sites().make();
  bothRefuse(site, 4, /ip/, 'ADD', { args: 'ip=10.1.2.9' });
  bothRefuse(site, 4, undefined, 'ADD', { args: 'ignoreunknown=1;FOO=BAR' });
  const document = succeeds(site.call('weft-ipam', request(site, 'ADD', { args: 'ip=10.1.2.9;IgnoreUnknown=1' })));
  assert.is(readResult(document).ips?.[0]?.address, '10.1.2.2/24');
});

row(36, () => {
  const site = sites().make();
  const pod = site.addPod();
  const stdin = {
    CNIVersion: version(),
    Name: 'net',
    TYPE: 'weft',
    Bridge: 'br7',
    IsGateway: true,
    IPAM: { Type: 'weft-ipam', DataDir: site.dataDir, Ranges: [[{ Subnet: '10.1.2.0/24', GATEWAY: '10.1.2.7' }]] },
  };
  const document = site.add(pod, stdin);
  assert.equal(document.ips, [{ interface: 2, address: '10.1.2.1/24', gateway: '10.1.2.7' }]);
  assert.equal(site.link('br7').addresses, ['10.1.2.7/24']);
});

test('a document ends with a line feed, and errors echo the version that was asked for', () => {
  const site = sites().make();
  for (const cniVersion of versions) {
    const outcome = site.call('weft-ipam', request(site, 'ADD', { stdin: site.bridge({ cniVersion }, {}) }));
    assert.is(outcome.document?.cniVersion, cniVersion);
    assert.match(outcome.stdout, /\}\n$/);
  }
});

test('without root, there is one clear error message', () => {
  const site = sites().make();
  const through = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--inh-caps=-all', '--'];
  const pod = site.addPod();
  const commands: [Program, string][] = [
    ['weft', 'ADD'],
    ['weft-ipam', 'ADD'],
  ];
  for (const [program, command] of commands) {
    const document = site.refuses(
      () => site.call(program, request(site, command, { through, containerId: pod.id })),
      'own',
    );
    assert.match(`${document.msg}`, /as root|can be read and written/);
  }
  assert.equal(succeeds(site.call('weft', { command: 'VERSION', through })).supportedVersions, versions);
});

run();
