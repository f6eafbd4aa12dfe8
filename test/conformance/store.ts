/** An address store of a test, by the IPAM plugin alone. */

import { join } from 'node:path';
import * as assert from 'uvu/assert';
import type { CallOptions, CniDocument } from '../lab/plugin.ts';
import { type fails, succeeds } from '../support/cni.ts';
import { readResult, version } from '../support/versions.ts';
import type { Site } from './site.ts';

type Keys = Record<string, unknown>;

/** A site, and `weft-ipam` called with one `ipam` section. */
export class Store {
  readonly site: Site;
  readonly stdin: Keys;

  constructor(site: Site, ipam: Keys, configuration: Keys = {}) {
    this.site = site;
    const { runDir, subnetFile } = site;
    this.stdin = {
      cniVersion: version(),
      name: 'net',
      type: 'any',
      ipam: site.ipam({ runDir, subnetFile, ...ipam }),
      ...configuration,
    };
  }

  /** The same store, another configuration. */
  with(ipam: Keys, configuration: Keys = {}): Store {
    return new Store(this.site, ipam, configuration);
  }

  call(command: string, containerId: string, options: CallOptions = {}) {
    const netns = join(this.site.folder, 'no-netns');
    return this.site.call('weft-ipam', { command, containerId, netns, ifname: 'eth0', stdin: this.stdin, ...options });
  }

  /** ADD, which succeeds. @returns the result in the shape of 1.0.0 */
  add(containerId: string, options: CallOptions = {}): CniDocument {
    return readResult(succeeds(this.call('ADD', containerId, options)));
  }

  /** The addresses an ADD gives. */
  take(containerId: string, options: CallOptions = {}): string[] {
    return this.add(containerId, options).ips!.map(({ address }) => address);
  }

  free(containerId: string, options: CallOptions = {}): void {
    const outcome = this.call('DEL', containerId, options);
    succeeds(outcome);
    assert.is(outcome.stdout, '');
  }

  refuses(
    containerId: string,
    codes: Parameters<typeof fails>[1],
    text?: RegExp,
    options: CallOptions = {},
  ): CniDocument {
    return this.site.refuses(() => this.call('ADD', containerId, options), codes, text, []);
  }

  /** Every command but DEL finds fault with the configuration. */
  isInvalid(text?: RegExp, codes: Parameters<typeof fails>[1] = 7): void {
    this.refuses('c1', codes, text);
  }
}
