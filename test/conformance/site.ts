/** A host for one test: a namespace of its own, an address store of its own, and the pods behind it. */

import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as assert from 'uvu/assert';
import { BareHost, type PodSpace, presentLink } from '../lab/bare-host.ts';
import { execute, run } from '../lab/commands.ts';
import { describeNamespace, readLink, readLinks } from '../lab/kernel-state.ts';
import {
  type CallOptions,
  type CniDocument,
  callPlugin,
  callPluginAsync,
  type Outcome,
  type Program,
} from '../lab/plugin.ts';
import { Scratch } from '../lab/scratch.ts';
import { fails, type own, succeeds } from '../support/cni.ts';
import { readResult, version, writeResult } from '../support/versions.ts';
import { afterEachVersion } from './rows.ts';

type Configuration = Record<string, unknown>;

export class Site extends BareHost {
  readonly pods: PodSpace[] = [];

  constructor(scratch: Scratch, label: string) {
    super(scratch, label);
    mkdirSync(this.runDir);
  }

  addPod(): PodSpace {
    return this.addPods(1)[0]!;
  }

  addPods(count: number): PodSpace[] {
    const made = this.addPodSpaces(count);
    this.pods.push(...made);
    return made;
  }

  /** An `ipam` section of ours with this site's store. */
  ipam(keys: Configuration = {}): Configuration {
    return { type: 'weft-ipam', dataDir: this.dataDir, ...keys };
  }

  /** A configuration in bridge's own words. */
  bridge(keys: Configuration = {}, ipam: Configuration = { subnet: '10.1.2.0/24' }): Configuration {
    return { cniVersion: version(), name: 'net', type: 'weft', bridge: 'br0', ipam: this.ipam(ipam), ...keys };
  }

  /** The whole of an overlay's configuration, but for this site's own paths. */
  overlay(keys: Configuration = {}, ipam: Configuration = {}): Configuration {
    const { runDir, subnetFile } = this;
    return { cniVersion: '1.1.0', name: 'weft', type: 'weft', runDir, subnetFile, ipam: this.ipam(ipam), ...keys };
  }

  call(program: Program, options: CallOptions): Outcome {
    return callPlugin(program, { namespace: this.namespace, ...options });
  }

  #attachment(command: string, pod: PodSpace, stdin: unknown, options: CallOptions): CallOptions {
    const { namespace } = this;
    return { namespace, command, containerId: pod.id, netns: pod.path, ifname: 'eth0', stdin, ...options };
  }

  /** `weft COMMAND` for a pod. */
  weft(command: string, pod: PodSpace, stdin: unknown, options: CallOptions = {}): Outcome {
    return callPlugin('weft', this.#attachment(command, pod, stdin, options));
  }

  weftAsync(command: string, pod: PodSpace, stdin: unknown, options: CallOptions = {}): Promise<Outcome> {
    return callPluginAsync('weft', this.#attachment(command, pod, stdin, options));
  }

  /** ADD, which succeeds. @returns the result in the shape of 1.0.0 */
  add(pod: PodSpace, configuration: Configuration, options: CallOptions = {}): CniDocument {
    const result = readResult(succeeds(this.weft('ADD', pod, configuration, options)));
    if (String(result.cniVersion) >= '0.3.0') return result;
    const interfaces = this.#interfaces(pod, options);
    const ips = result.ips?.map((address) => ({ interface: 2, ...address }));
    return interfaces ? { ...result, ...(ips ? { ips } : {}), interfaces } : result;
  }

  /** A new pod, attached by bridge's keys and these. */
  attached(keys: Configuration, ipam: Configuration) {
    const pod = this.addPod();
    const configuration = this.bridge(keys, ipam);
    return { site: this, pod, configuration, result: this.add(pod, configuration) };
  }

  /** The interfaces, which a result before 0.3.0 does not list, from the kernel. */
  #interfaces(pod: PodSpace, options: CallOptions): CniDocument['interfaces'] {
    const ifname = options.ifname ?? 'eth0';
    const links = readLinks(this.namespace);
    const veth = links.find(({ alias }) => alias?.endsWith(` ${pod.id} ${ifname}`));
    const bridge = links.find(({ name }) => name === veth?.master);
    const container = readLink(pod.namespace, ifname);
    if (!veth || !bridge || !container) return undefined;
    return [
      { name: bridge.name, mac: bridge.mac },
      { name: veth.name, mac: veth.mac },
      { name: ifname, mac: container.mac, sandbox: pod.path },
    ];
  }

  /** @param prevResult in the shape of 1.0.0 */
  check(pod: PodSpace, configuration: Configuration, prevResult: unknown, options: CallOptions = {}): Outcome {
    const written = prevResult && writeResult(prevResult as CniDocument, configuration['cniVersion']);
    return this.weft('CHECK', pod, { ...configuration, prevResult: written }, options);
  }

  delete(pod: PodSpace, configuration: Configuration, options: CallOptions = {}): void {
    const { prevResult } = configuration;
    const written = prevResult && writeResult(prevResult as CniDocument, configuration['cniVersion']);
    const outcome = this.weft('DEL', pod, written ? { ...configuration, prevResult: written } : configuration, options);
    succeeds(outcome);
    assert.is(outcome.stdout, '', 'DEL says nothing');
  }

  /** The call fails with this code, and leaves links, addresses, routes and reservations as they were. */
  refuses(
    call: () => Outcome,
    codes: number | typeof own | readonly number[],
    text?: RegExp,
    namespaces: readonly string[] = [this.namespace, ...this.pods.map((pod) => pod.namespace)],
  ): CniDocument {
    const state = () => [
      ...namespaces.flatMap((namespace) =>
        describeNamespace(namespace).map((line) => `${namespace.split('-').slice(2).join('-')}: ${line}`),
      ),
      ...this.reservations().map((address) => `reservation ${address}`),
    ];
    const before = state();
    const document = fails(call(), codes, text);
    assert.equal(state(), before, 'a refused call leaves nothing behind');
    return document;
  }

  /** Addresses taken in the store, sorted; `network/address` where several networks are there. */
  reservations(network = 'net'): string[] {
    const folder = join(this.dataDir, network);
    if (!existsSync(folder)) return [];
    return (
      readdirSync(folder)
        // A name with a dot before it is no reservation's: it is one that was being written when its writer was killed.
        .filter((name) => !/^(lock|last_reserved_ip\..*|\..*)$/.test(name))
        .sort()
    );
  }

  reservation(address: string, network = 'net'): string {
    return readFileSync(join(this.dataDir, network, address), 'utf8');
  }

  /** Writes a file of the store as host-local would. */
  writeStore(name: string, content: string, network = 'net'): void {
    mkdirSync(join(this.dataDir, network), { recursive: true });
    writeFileSync(join(this.dataDir, network, name), content, { mode: 0o600 });
  }

  writeNodeFile(keys: Configuration = {}): void {
    const file = {
      version: 1,
      node: 'site',
      networks: ['10.96.0.0/16'],
      subnets: ['10.96.7.0/24'],
      mtu: 1450,
      ipMasq: false,
      ...keys,
    };
    writeFileSync(join(this.runDir, 'node.json'), JSON.stringify(file));
  }

  writeSubnetEnv(): void {
    const lines = ['NETWORK=10.97.0.0/16', 'SUBNET=10.97.3.1/24', 'MTU=1400', 'IPMASQ=false'];
    writeFileSync(this.subnetFile, lines.map((line) => `FLANNEL_${line}\n`).join(''));
  }

  /** A link of the pod, which has to be there. */
  podLink(pod: PodSpace, name = 'eth0') {
    return presentLink(pod.namespace, name);
  }

  podIp(pod: PodSpace, ...words: string[]): void {
    run(['ip', '-n', pod.namespace, ...words]);
  }

  pings(from: string, address: string): boolean {
    return execute(['ping', '-c', '1', '-W', '2', address], { namespace: from }).status === 0;
  }
}

/** Sites of one suite, made when asked for, all removed at its end. */
export class Sites {
  readonly scratch: Scratch;
  #count = 0;

  constructor(label: string) {
    this.scratch = new Scratch(label);
    // Rows are run at many versions: what one has used is of no use to the next.
    afterEachVersion(() => this.scratch.removeNamespaces([...this.scratch.namespaces]));
  }

  make(): Site {
    return new Site(this.scratch, `s${++this.#count}`);
  }

  remove(): void {
    this.scratch.remove();
  }
}
