/**
 * `weftctl docker-plugin`: Docker's network driver, asked as libnetwork asks it. Docker's part, moving the container's end
 * and giving it its addresses, is done by ip(8) here.
 */

import { existsSync, readdirSync, statSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Service } from '../lab/commands.ts';
import { PluginHost } from '../lab/plugin-host.ts';
import { program, root } from '../lab/project.ts';
import { Scratch } from '../lab/scratch.ts';
import { waitFor } from '../lab/wait.ts';
import { fixture } from '../support/fixture.ts';

const test = suite('docker-plugin');

class Driver {
  readonly host: PluginHost;
  readonly path: string;
  #service: Service | undefined;

  constructor(host: PluginHost) {
    this.host = host;
    this.path = join(host.folder, 'weft.sock');
  }

  get words(): string[] {
    const { confDir, cacheDir } = this.host;
    const folders = ['--conf-dir', confDir, '--cache-dir', cacheDir, '--bin-dir', join(root, 'dist/bin')];
    return [program('weftctl'), 'docker-plugin', '--network', 'lan', '--socket', this.path, ...folders];
  }

  async start(): Promise<void> {
    const logFile = join(this.host.folder, 'driver.log');
    this.#service = this.host.scratch.start(this.words, { namespace: this.host.namespace, logFile });
    await waitFor('the driver', async () => (await this.ask('/Plugin.Activate')).status === 200);
  }

  async stop(): Promise<void> {
    await this.#service?.stop('SIGKILL');
  }

  /** A document, or a text that is none. */
  ask(path: string, body: object | string = {}): Promise<{ status: number; document: Record<string, unknown> }> {
    return new Promise((resolve, reject) => {
      const asking = request({ socketPath: this.path, method: 'POST', path }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (part: string) => {
          text += part;
        });
        response.on('end', () => resolve({ status: response.statusCode ?? 0, document: JSON.parse(text) }));
      });
      asking.on('error', reject);
      asking.end(typeof body === 'string' ? body : JSON.stringify(body));
    });
  }

  async does(path: string, body: object = {}): Promise<Record<string, unknown>> {
    const { status, document } = await this.ask(path, body);
    assert.is(status, 200, `${path}: ${JSON.stringify(document)}`);
    return document;
  }

  async refuses(path: string, body: object | string, pattern: RegExp): Promise<void> {
    const { status, document } = await this.ask(path, body);
    assert.is(status, 500, path);
    assert.match(document['Err'] as string, pattern);
  }
}

const shared = fixture(
  test,
  async () => {
    const scratch = new Scratch('docker-plugin');
    const host = new PluginHost(scratch, 'h');
    host.writeNetwork('lan', '10.79.1.0/24');
    const driver = new Driver(host);
    await driver.start();
    return { scratch, host, driver };
  },
  ({ scratch }) => scratch.remove(),
);

const reservations = (): string[] => {
  const folder = join(shared().host.dataDir, 'lan');
  return existsSync(folder) ? readdirSync(folder).filter((name) => /^[0-9]/.test(name)) : [];
};
const cached = (): string[] => {
  const folder = join(shared().host.cacheDir, 'results');
  return existsSync(folder) ? readdirSync(folder) : [];
};
const endpoint = (n: number): { NetworkID: string; EndpointID: string } => ({
  NetworkID: 'a'.repeat(64),
  EndpointID: `${n}`.padStart(64, '0').split('').reverse().join(''),
});

/** From the request for an endpoint until the container runs. */
async function run(n: number, namespace: string, mac = ''): Promise<Record<string, string>> {
  const { driver, host } = shared();
  const wanted = { Address: '', AddressIPv6: '', MacAddress: mac };
  const made = await driver.does('/NetworkDriver.CreateEndpoint', { ...endpoint(n), Interface: wanted });
  const own = made['Interface'] as Record<string, string>;
  const joined = await driver.does('/NetworkDriver.Join', { ...endpoint(n), SandboxKey: '/run/docker/netns/x' });
  const { SrcName } = joined['InterfaceName'] as Record<string, string>;
  assert.equal(host.addressesIn(host.namespace, SrcName!), [], 'no address of a container on the host');
  host.ip('link', 'set', SrcName!, 'netns', namespace, 'name', 'eth0');
  const inside = ['ip', '-n', namespace];
  host.execute([...inside, 'address', 'add', own['Address']!, 'dev', 'eth0']);
  host.execute([...inside, 'link', 'set', 'eth0', 'up']);
  return { ...own, gateway: joined['Gateway'] as string };
}

test('two containers get addresses of the network, reach each other, and leave nothing', async () => {
  const { driver, host, scratch } = shared();
  assert.equal(await driver.does('/Plugin.Activate'), { Implements: ['NetworkDriver'] });
  assert.is((await driver.does('/NetworkDriver.GetCapabilities'))['Scope'], 'local');
  await driver.does('/NetworkDriver.CreateNetwork', {
    NetworkID: 'x',
    IPv4Data: [{ Pool: '0.0.0.0/0' }],
    IPv6Data: [],
  });
  const [a, b] = scratch.addNamespaces(['d1', 'd2']) as [string, string];
  const before = host.execute(['ip', 'route']).stdout;
  const one = await run(1, a);
  const two = await run(2, b, '02:00:00:00:79:02');
  assert.is(one['gateway'], '10.79.1.1');
  assert.is(two['MacAddress'], '', 'Docker has chosen it');
  assert.match(host.execute(['ip', '-n', b, 'link', 'show', 'eth0']).stdout, /02:00:00:00:79:02/);
  assert.not(host.execute(['ip', 'route']).stdout.includes('default'), before);
  await waitFor('one container to reach the other', () => {
    const [address] = two['Address']!.split('/');
    return host.execute(['ip', 'netns', 'exec', a, 'ping', '-c1', '-W1', address!]).status === 0;
  });
  assert.is(reservations().length, 2);
  assert.equal(await driver.does('/NetworkDriver.EndpointOperInfo', endpoint(1)), { Value: {} });
  // It keeps nothing in memory.
  await driver.stop();
  await driver.start();
  for (const n of [1, 2]) {
    await driver.does('/NetworkDriver.Leave', endpoint(n));
    await driver.does('/NetworkDriver.DeleteEndpoint', endpoint(n));
  }
  assert.equal([reservations(), cached(), host.veths()], [[], [], []]);
  await driver.does('/NetworkDriver.DeleteEndpoint', endpoint(1));
  await driver.does('/NetworkDriver.DeleteNetwork', { NetworkID: 'x' });
});

test('weftctl gc knows its containers: living ones stay, and one that Docker forgot is freed', async () => {
  const { host, scratch } = shared();
  const [namespace] = scratch.addNamespaces(['d3']) as [string];
  await run(3, namespace);
  const collect = (): string => {
    const without = ['--without', 'docker', '--without', 'podman', '--without', 'cri'];
    const { stdout, stderr } = host.weftctl(['gc', '--grace', '0', '--data-dir', host.dataDir, ...without]);
    return stdout + stderr;
  };
  assert.is(collect(), 'Nothing to free: 1 attachment alive.\n');
  await host.endNamespace(namespace);
  assert.match(collect(), /lan +freed/);
  assert.equal([reservations(), cached()], [[], []]);
});

test('what it cannot do it refuses in words for the user of Docker, and keeps nothing', async () => {
  const { driver } = shared();
  const withPool = { NetworkID: 'x', IPv4Data: [{ Pool: '172.18.0.0/16', Gateway: '172.18.0.1/16' }] };
  await driver.refuses('/NetworkDriver.CreateNetwork', withPool, /create the network with "--ipam-driver null"/);
  const withAddress = { ...endpoint(4), Interface: { Address: '172.18.0.2/16' } };
  await driver.refuses('/NetworkDriver.CreateEndpoint', withAddress, /Weft chooses the addresses/);
  const ports = { ...endpoint(4), Options: { 'com.docker.network.portmap': [{ Port: 80, HostPort: 8080 }] } };
  await driver.refuses('/NetworkDriver.ProgramExternalConnectivity', ports, /publishes no ports \(-p\)/);
  await driver.refuses('/NetworkDriver.Join', endpoint(5), /was not made by Weft/);
  for (const id of ['', '../../etc', 'x'.repeat(64), 7]) {
    await driver.refuses('/NetworkDriver.CreateEndpoint', { EndpointID: id }, /names no endpoint/);
  }
  await driver.refuses('/constructor', {}, /knows no "\/constructor"/);
  await driver.refuses('/NetworkDriver.Join', 'nonsense', /The request is not JSON/);
  await driver.refuses('/NetworkDriver.Join', '[]', /is not a JSON object/);
  await driver.refuses('/NetworkDriver.Join', 'x'.repeat(2_000_000), /too long/);
  assert.equal([reservations(), cached()], [[], []]);
});

test('its socket is for root alone, and for one driver', () => {
  const { driver, host } = shared();
  assert.is(statSync(driver.path).mode & 0o777, 0o600);
  const second = host.execute(driver.words, { timeoutMs: 30_000 });
  assert.equal([second.status, second.stderr], [1, `weftctl: Another program serves "${driver.path}" already\n`]);
});

test.run();
