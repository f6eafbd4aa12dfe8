/** A network namespace that stands for a host, the pods behind it, and both plugins' configuration for it. */

import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { formatNodeFile } from '../net/node-file.ts';
import { formatPrefix, type Prefix, parsePrefix } from '../net/prefix.ts';
import { BareHost } from '../test/lab/bare-host.ts';
import { enterNamespace } from '../test/lab/namespaces.ts';
import { Scratch } from '../test/lab/scratch.ts';
import type { Call } from './measure.ts';

/** WEFT_BENCH_BEFORE: a folder with the executables of an earlier build, which then stands beside this one. */
export const beforeFolder = process.env['WEFT_BENCH_BEFORE'];

export interface Contender {
  /** The second is the one that Weft is compared with. */
  readonly name: 'weft' | 'reference' | 'before';
  readonly plugin: string;
  readonly configuration: string;
}

/** What the containers get. */
export const variants = ['plain', 'masquerade', 'dual'] as const;
export type Variant = (typeof variants)[number];

const prefixes = (ipv4: string, ipv6: string, variant: Variant): Prefix[] =>
  [ipv4, ...(variant === 'dual' ? [ipv6] : [])].map((text) => parsePrefix(text)!);

/** The folder of Debian's containernetworking-plugins, or another by WEFT_BENCH_REFERENCE. */
const referenceFolder = process.env['WEFT_BENCH_REFERENCE'] ?? '/usr/lib/cni';
const weftFolder = new URL('../dist/bin/', import.meta.url).pathname;

/**
 * Copies the plugins as an installation does. The page cache holds a file that was copied in larger pieces than one
 * that a build has written: the copy starts a tenth faster, and only copies can be compared.
 */
function install(from: string, to: string): string {
  mkdirSync(to);
  for (const name of ['weft', 'weft-ipam']) copyFileSync(join(from, name), join(to, name));
  return to;
}

export class BenchHost extends BareHost {
  /** This process moves into the namespace, so that its children start there without a helper. */
  constructor() {
    super(new Scratch('bench'), 'host');
    enterNamespace(this.namespace);
  }

  /** Paths of `count` new namespaces. */
  addPods(count: number): string[] {
    return this.addPodSpaces(count).map(({ path }) => path);
  }

  /** The name of the one that Weft is compared with. */
  readonly beside = beforeFolder === undefined ? 'reference' : 'before';
  readonly #weftPlugin = join(install(weftFolder, join(this.folder, 'weft-bin')), 'weft');
  readonly #beforePlugin =
    beforeFolder === undefined ? undefined : join(install(beforeFolder, join(this.folder, 'before-bin')), 'weft');

  contenders(variant: Variant = 'plain'): readonly [Contender, Contender] {
    return [
      this.#weft('weft', this.#weftPlugin, variant),
      this.#beforePlugin === undefined ? this.#reference(variant) : this.#weft('before', this.#beforePlugin, variant),
    ];
  }

  /** Each has a subnet of its own, because two bridges cannot have one. */
  #weft(name: 'weft' | 'before', plugin: string, variant: Variant): Contender {
    const runDir = join(this.folder, `${name}-run-${variant}`);
    mkdirSync(runDir, { recursive: true });
    const number = (name === 'weft' ? 96 : 97) + 2 * variants.indexOf(variant);
    const node = {
      node: 'bench',
      networks: prefixes('10.96.0.0/12', 'fd00:96::/48', variant),
      subnets: prefixes(`10.${number}.0.0/16`, `fd00:96:0:${number}::/64`, variant),
    };
    const ipMasq = variant === 'masquerade';
    writeFileSync(join(runDir, 'node.json'), formatNodeFile({ ...node, mtuBytes: 1450, ipMasq: false }));
    return {
      name,
      plugin,
      configuration: JSON.stringify({
        cniVersion: '1.0.0',
        name: `${name}-${variant}`,
        type: 'weft',
        bridge: `${name}${variants.indexOf(variant)}`,
        runDir,
        ipMasq,
        ipam: { type: 'weft-ipam', dataDir: join(this.folder, name) },
      }),
    };
  }

  #reference(variant: Variant): Contender {
    return {
      name: 'reference',
      plugin: join(referenceFolder, 'bridge'),
      configuration: JSON.stringify({
        cniVersion: '1.0.0',
        name: `reference-${variant}`,
        type: 'bridge',
        bridge: `reference${variants.indexOf(variant)}`,
        ipMasq: variant === 'masquerade',
        isDefaultGateway: true,
        hairpinMode: true,
        mtu: 1450,
        ipam: {
          type: 'host-local',
          ranges: prefixes(`10.${112 + variants.indexOf(variant)}.0.0/16`, 'fd00:112::/64', variant).map((subnet) => [
            { subnet: formatPrefix(subnet) },
          ]),
          dataDir: join(this.folder, 'reference'),
        },
      }),
    };
  }

  call(contender: Contender, command: string, pod?: string): Call {
    return {
      command: [contender.plugin],
      stdin: contender.configuration,
      environment: {
        // The reference's bridge calls iptables.
        PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
        CNI_COMMAND: command,
        CNI_PATH: `${weftFolder}:${referenceFolder}`,
        ...(pod && { CNI_CONTAINERID: pod.slice(pod.lastIndexOf('/') + 1), CNI_NETNS: pod, CNI_IFNAME: 'eth0' }),
      },
    };
  }

  /** `weft-ipam`, or the reference's host-local, with a store of its own and 10.64.0.0/16. */
  callIpam(type: 'weft-ipam' | 'host-local', dataDir: string, command: string, containerId: string): Call {
    const ipam = { type, dataDir, ranges: [[{ subnet: '10.64.0.0/16' }]] };
    return {
      command: [join(type === 'weft-ipam' ? weftFolder : referenceFolder, type)],
      stdin: JSON.stringify({ cniVersion: '1.0.0', name: 'net', type: 'bridge', ipam }),
      environment: {
        CNI_COMMAND: command,
        CNI_PATH: `${weftFolder}:${referenceFolder}`,
        CNI_CONTAINERID: containerId,
        CNI_NETNS: '/nonexistent',
        CNI_IFNAME: 'eth0',
      },
    };
  }

  remove(): void {
    this.scratch.remove();
  }
}
