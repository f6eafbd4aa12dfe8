/** Reservations of addresses, and other files that runtimes and plugins keep of containers. */

import { type Address, addressKey, formatAddress } from '../../../net/address.ts';
import { defaultPaths } from '../../../net/paths.ts';
import { prefixContains } from '../../../net/prefix.ts';
import type { Attachment } from '../../../reservations/attachments.ts';
import { command, type HostCheck, type HostFinding } from '../host-check.ts';
import type { HostView } from '../host-view.ts';

/** libcni's results, and the records of flannel's plugin, lie beside the stores. */
const beside = ({ paths }: HostView, name: string): string =>
  `${paths.dataDir.slice(0, paths.dataDir.lastIndexOf('/'))}/${name}`;
const resultsOf = (host: HostView): string => beside(host, 'results');

/** An ADD or a DEL may be on its way. */
const settledMs = 60_000;

function isOld(host: HostView, path: string): boolean {
  const status = host.sys.stat(path);
  return typeof status !== 'number' && host.nowMs - status.mtimeMs > settledMs;
}

const pathOf = ({ paths }: HostView, network: string, address: Address): string =>
  `${paths.dataDir}/${network}/${formatAddress(address)}`;

const hasInterface = ({ host }: Attachment): boolean => typeof host === 'object';

/** More findings of one kind tell nobody more. */
const most = 20;

const twoStores: HostCheck = {
  code: 'address-twice',
  title: 'two networks have reserved the same address of this node',
  severity: 'error',
  costMs: 20,
  why: 'two containers have one address: packets reach one of them only',
  remedy: '`rm /var/lib/cni/networks/cbr0/10.244.7.2`, the reservation of the container that is gone',
  safe: false,
  find(host) {
    const held = new Map<string | number, { address: Address; holders: Attachment[] }>();
    for (const attachment of host.attachments()) {
      for (const address of attachment.addresses) {
        if (!host.subnets.some((subnet) => prefixContains(subnet, address))) continue;
        const key = addressKey(address);
        const known = held.get(key) ?? { address, holders: [] };
        known.holders.push(attachment);
        held.set(key, known);
      }
    }
    return [...held.values()]
      .filter(({ holders }) => new Set(holders.map(({ network }) => network)).size > 1)
      .slice(0, most)
      .map(({ address, holders }): HostFinding => {
        const gone = holders.some(hasInterface) ? holders.filter((holder) => !hasInterface(holder)) : [];
        const names = [...new Set(holders.map(({ network }) => network))].map((network) => `"${network}"`);
        return {
          subject: formatAddress(address),
          facts: { networks: names.length },
          what: `The address ${formatAddress(address)} is reserved by the networks ${names.join(' and ')}`,
          ...(gone.length === 0
            ? {}
            : { command: command('rm', '-f', '--', ...gone.map(({ network }) => pathOf(host, network, address))) }),
        };
      });
  },
};

const collect = ({ paths }: HostView): string =>
  paths.dataDir === defaultPaths.cniDataDir
    ? command('weftctl', 'gc')
    : command('weftctl', 'gc', '--data-dir', paths.dataDir);

const orphanReservation: HostCheck = {
  code: 'reservation-without-container',
  title: 'an address is reserved for a container that does not exist',
  severity: 'warning',
  costMs: 20,
  why: 'the subnet runs out of addresses, and then no container starts',
  remedy:
    '`rm /var/lib/cni/networks/weft/10.244.7.2`, or `weftctl gc` where the runtime has kept a result of the container',
  safe: false,
  find(host) {
    const results = host.names(resultsOf(host));
    // A runtime that kept a result may still call DEL. `weftctl gc` asks it first.
    const mends = (containerId: string, path: string): string =>
      results.some((name) => name.includes(containerId)) ? collect(host) : command('rm', '-f', '--', path);
    return host
      .attachments()
      .filter(({ host: end }) => end === 'missing')
      .flatMap(({ network, containerId, addresses }) =>
        addresses
          // The container of another plugin's network may have an interface that nobody can tell to be its own.
          .filter((address) => host.subnets.some((subnet) => prefixContains(subnet, address)))
          .filter((address) => isOld(host, pathOf(host, network, address)))
          .map((address) => ({
            subject: formatAddress(address),
            facts: { network, container: containerId },
            what: `The address ${formatAddress(address)} is reserved for the container "${containerId}", which has no interface`,
            command: mends(containerId, pathOf(host, network, address)),
          })),
      )
      .slice(0, most);
  },
};

const orphanRecord: HostCheck = {
  code: 'flannel-record',
  title: "a record of flannel's plugin belongs to no container",
  severity: 'warning',
  costMs: 10,
  why: 'a later container of the same id would be removed by the wrong configuration, and the folder grows',
  remedy: '`rm /var/lib/cni/flannel/CONTAINER`',
  safe: false,
  find(host) {
    const folder = beside(host, 'flannel');
    const names = host.names(folder);
    if (names.length === 0) return [];
    const known = new Set(host.attachments().map(({ containerId }) => containerId));
    const results = host.names(resultsOf(host));
    return names
      .filter((name) => {
        const id = name.split('@')[0]!;
        return !known.has(id) && !results.some((result) => result.includes(id)) && isOld(host, `${folder}/${name}`);
      })
      .slice(0, most)
      .map((name) => ({
        subject: name,
        facts: {},
        what: `The record "${folder}/${name}" belongs to no container that has an address`,
        command: command('rm', '-f', '--', `${folder}/${name}`),
      }));
  },
};

const emptyResult: HostCheck = {
  code: 'empty-result',
  title: "a result of the runtime's is empty",
  severity: 'error',
  costMs: 10,
  why: 'the runtime can never remove that container: it cannot read what it wrote before a power cut',
  remedy: '`rm /var/lib/cni/results/weft-CONTAINER-eth0`',
  safe: true,
  find(host) {
    const folder = resultsOf(host);
    return host
      .names(folder)
      .filter((name) => {
        const status = host.sys.stat(`${folder}/${name}`);
        return typeof status !== 'number' && status.size === 0 && host.isFile(`${folder}/${name}`);
      })
      .filter((name) => isOld(host, `${folder}/${name}`))
      .slice(0, most)
      .map((name) => ({
        subject: name,
        facts: {},
        what: `The file "${folder}/${name}" is empty`,
        command: command('rm', '-f', '--', `${folder}/${name}`),
      }));
  },
};

export const addressChecks: readonly HostCheck[] = [twoStores, orphanReservation, orphanRecord, emptyResult];
