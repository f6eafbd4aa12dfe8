/** A network namespace as a host, its pods, and the configuration of both plugins for it. */

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { check } from '../linux/errors.ts';
import { CLONE_NEWNET, open } from '../linux/sys.ts';
import { sys } from '../linux/sys-bun.ts';
import { formatNodeFile } from '../net/node-file.ts';
import { parsePrefix } from '../net/prefix.ts';
import type { Call } from './measure.ts';

export interface Contender {
  readonly name: 'weft' | 'reference';
  readonly plugin: string;
  readonly configuration: string;
}

/** The folder of Debian's containernetworking-plugins; WEFT_BENCH_REFERENCE names another one. */
const referenceFolder = process.env['WEFT_BENCH_REFERENCE'] ?? '/usr/lib/cni';
const weftFolder = new URL('../dist/bin/', import.meta.url).pathname;

export class BenchHost {
  readonly folder = mkdtempSync(join(tmpdir(), 'weft-bench-'));
  readonly #name = `weft-bench-${process.pid}`;
  readonly #namespaces: string[] = [];
  #pods = 0;

  /** Makes the namespace and enters it, so that children start there without a helper. */
  constructor() {
    this.#addNamespaces([this.#name]);
    const fd = check(sys.open(`/run/netns/${this.#name}`, open.O_RDONLY, 0), 'open the host namespace');
    check(sys.setns(fd, CLONE_NEWNET), 'enter the host namespace');
    execFileSync('ip', ['link', 'set', 'lo', 'up']);
    mkdirSync(join(this.folder, 'run'));
    const node = { node: 'bench', networks: [parsePrefix('10.96.0.0/12')!], subnets: [parsePrefix('10.96.0.0/16')!] };
    writeFileSync(join(this.folder, 'run/node.json'), formatNodeFile({ ...node, mtuBytes: 1450, ipMasq: false }));
  }

  #addNamespaces(names: readonly string[]): void {
    execFileSync('ip', ['-batch', '-'], { input: names.map((name) => `netns add ${name}\n`).join('') });
    this.#namespaces.push(...names);
  }

  /** Paths of `count` new namespaces. */
  addPods(count: number): string[] {
    const names = Array.from({ length: count }, () => `${this.#name}-${this.#pods++}`);
    this.#addNamespaces(names);
    return names.map((name) => `/run/netns/${name}`);
  }

  readonly contenders: readonly Contender[] = [
    {
      name: 'weft',
      plugin: join(weftFolder, 'weft'),
      configuration: JSON.stringify({
        cniVersion: '1.0.0',
        name: 'weft-bench',
        type: 'weft',
        bridge: 'weft0',
        runDir: join(this.folder, 'run'),
        ipam: { type: 'weft-ipam', dataDir: join(this.folder, 'weft') },
      }),
    },
    {
      name: 'reference',
      plugin: join(referenceFolder, 'bridge'),
      configuration: JSON.stringify({
        cniVersion: '1.0.0',
        name: 'reference-bench',
        type: 'bridge',
        bridge: 'reference0',
        isDefaultGateway: true,
        hairpinMode: true,
        mtu: 1450,
        ipam: {
          type: 'host-local',
          ranges: [[{ subnet: '10.112.0.0/16' }]],
          dataDir: join(this.folder, 'reference'),
        },
      }),
    },
  ];

  call(contender: Contender, command: string, pod?: string): Call {
    return {
      command: [contender.plugin],
      stdin: contender.configuration,
      environment: {
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
    execFileSync('ip', ['-force', '-batch', '-'], {
      input: this.#namespaces.map((name) => `netns del ${name}\n`).join(''),
    });
    rmSync(this.folder, { recursive: true });
  }
}
