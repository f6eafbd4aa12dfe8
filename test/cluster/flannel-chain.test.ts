/**
 * One host changes hands between flannel's chain of CNI plugins and Weft's. No address is given twice, and whoever has the
 * host at the end deletes all containers wholly. WEFT_TEST_FLANNEL_CNI names flannel's plugin; with it there are 20
 * containers of each kind.
 */

import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { BareHost, type PodSpace } from '../lab/bare-host.ts';
import { type Attachment, type Conflist, Network } from '../lab/conflist.ts';
import { type FlannelPlugin, flannelPlugins } from '../lab/flannel-plugin.ts';
import { readLinks } from '../lab/kernel-state.ts';
import { MountNamespace } from '../lab/mount-namespace.ts';
import { reaches } from '../lab/packets.ts';
import { pluginFolder } from '../lab/plugin.ts';
import { referenceFolder } from '../lab/project.ts';
import { Scratch } from '../lab/scratch.ts';
import { fixture } from '../support/fixture.ts';

const subnetEnv = [
  'FLANNEL_NETWORK=10.1.0.0/16',
  'FLANNEL_SUBNET=10.1.17.1/24',
  'FLANNEL_MTU=1450',
  'FLANNEL_IPMASQ=true',
];

/** A container with the network that attached it. */
interface Attached {
  readonly pod: PodSpace;
  readonly address: string;
  readonly attachment: Attachment;
}

class ChainHost extends BareHost {
  /** The host's /var/lib/cni: Weft looks for flannel's records in there. */
  readonly state = join(this.folder, 'cni');
  readonly #cacheFolder = join(this.folder, 'cni-cache');
  readonly #flannelFolder = join(this.folder, 'flannel-bin');
  readonly #mounts: MountNamespace;
  #ports = 0;

  private constructor(scratch: Scratch, name: string, mounts: MountNamespace) {
    super(scratch, name);
    this.#mounts = mounts;
  }

  static async open(scratch: Scratch, name: string, plugin: FlannelPlugin): Promise<ChainHost> {
    const host = new ChainHost(scratch, name, await MountNamespace.open(scratch, 'slave'));
    mkdirSync(host.state);
    host.#mounts.mount('--bind', host.state, '/var/lib/cni');
    plugin.install(host.#flannelFolder);
    writeFileSync(host.subnetFile, subnetEnv.map((line) => `${line}\n`).join(''));
    return host;
  }

  #network(plugin: Conflist['plugins'][number], path: readonly string[]): Network {
    const conflist: Conflist = {
      cniVersion: '0.3.1',
      name: 'cbr0',
      plugins: [plugin, { type: 'portmap', capabilities: { portMappings: true } }],
    };
    const { namespace } = this;
    const through = this.#mounts.enter(namespace);
    return new Network(conflist, { namespace, cacheFolder: this.#cacheFolder, path: path.join(':'), through });
  }

  /** kube-flannel's list, with this host's paths. */
  get #flannelList(): Conflist['plugins'][number] {
    const delegate = { hairpinMode: true, isDefaultGateway: true };
    return { type: 'flannel', subnetFile: this.subnetFile, delegate };
  }

  /** flannel's own chain: its plugin, then the reference's. */
  get flannel(): Network {
    return this.#network(this.#flannelList, [this.#flannelFolder, referenceFolder]);
  }

  /** The same list with Weft's executable in the plugin's place. */
  get weftAsFlannel(): Network {
    return this.#network(this.#flannelList, [pluginFolder, referenceFolder]);
  }

  /** Weft's list under the name of the network that was there. */
  get weft(): Network {
    const { runDir, subnetFile } = this;
    return this.#network({ type: 'weft', runDir, subnetFile, ipam: { type: 'weft-ipam' } }, [
      pluginFolder,
      referenceFolder,
    ]);
  }

  /** New containers; the last one has a port of the host's. */
  attach(network: Network, count: number): Attached[] {
    return this.addPodSpaces(count).map((pod, i): Attached => {
      const portMappings = [{ hostPort: 20_000 + this.#ports++, containerPort: 80, protocol: 'tcp' }];
      const runtimeConfig = i === count - 1 ? { portMappings } : {};
      const attachment = { containerId: pod.id, netns: pod.path, runtimeConfig };
      const { ips = [] } = network.add(attachment);
      return { pod, address: ips[0]!.address.split('/')[0]!, attachment };
    });
  }

  #names(folder: string): string[] {
    return existsSync(folder) ? readdirSync(folder).sort() : [];
  }

  /** What containers have left: interfaces, addresses, records, cached results, rules. */
  leftovers(pods: readonly Attached[]): string[] {
    const rules = this.run('iptables-save').split('\n');
    const networks = join(this.state, 'networks');
    return [
      ...readLinks(this.namespace).flatMap(({ name }) => (name.startsWith('veth') ? [`interface ${name}`] : [])),
      ...this.#names(networks).flatMap((network) =>
        this.#names(join(networks, network))
          .filter((name) => /^\d+\./.test(name))
          .map((name) => `reservation ${network}/${name}`),
      ),
      ...this.#names(join(this.state, 'flannel')).map((name) => `record ${name}`),
      ...this.#names(this.#cacheFolder).map((name) => `result ${name}`),
      ...rules.filter((rule) =>
        pods.some(({ address }) => rule.includes(`${address}/32`) || rule.includes(`${address}:`)),
      ),
    ];
  }
}

function giveNoAddressTwice(pods: readonly Attached[]): void {
  assert.is(
    new Set(pods.map(({ address }) => address)).size,
    pods.length,
    pods.map(({ address }) => address).join(' '),
  );
}

/** Each of one kind reaches one of each other kind. */
function reachEachOther(...kinds: readonly (readonly Attached[])[]): void {
  const firsts = kinds.map(([first]) => first!);
  for (const from of firsts) {
    for (const to of firsts) {
      if (from !== to) assert.ok(reaches(from.pod.namespace, to.address), `${from.address} to ${to.address}`);
    }
  }
}

function defineChain(plugin: FlannelPlugin): void {
  const test = suite(`flannel chain: ${plugin.name}`);
  const count = plugin.isReal ? 20 : 3;
  const scratch = fixture(
    test,
    () => new Scratch('chain'),
    (made) => made.remove(),
  );

  test(`${plugin.name}, then Weft: no address twice, and Weft deletes all containers wholly`, async () => {
    const host = await ChainHost.open(scratch(), 'one', plugin);
    const before = host.attach(host.flannel, count);
    const same = host.attach(host.weftAsFlannel, count);
    const own = host.attach(host.weft, count);
    const all = [...before, ...same, ...own];
    giveNoAddressTwice(all);
    reachEachOther(before, same, own);
    // Containers of each kind are deleted by each list that the host may have by now.
    for (const [i, { attachment }] of all.entries()) {
      (i % 2 === 0 ? host.weft : host.weftAsFlannel).delete(attachment);
    }
    assert.equal(host.leftovers(all), []);
  });

  test(`Weft, then ${plugin.name}: no address twice, and flannel's chain deletes all containers wholly`, async () => {
    const host = await ChainHost.open(scratch(), 'two', plugin);
    const before = host.attach(host.weftAsFlannel, count);
    const own = host.attach(host.weft, count);
    const after = host.attach(host.flannel, count);
    const all = [...before, ...own, ...after];
    giveNoAddressTwice(all);
    reachEachOther(before, own, after);
    // flannel's plugin has no record of a container of Weft's own list: that list deletes it.
    for (const { attachment } of own) host.weft.delete(attachment);
    for (const { attachment } of [...before, ...after]) host.flannel.delete(attachment);
    assert.equal(host.leftovers(all), []);
  });

  test.run();
}

for (const plugin of flannelPlugins('flannel chain')) defineChain(plugin);
