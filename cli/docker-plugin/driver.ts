/**
 * Docker's network driver (libnetwork, docs/remote.md) by the plugin `weft`. An endpoint is an attachment: its id is the
 * container's id, and libcni's cached result is its memory.
 *
 * Docker itself moves the container's end into the container and gives it its addresses. So ADD makes that end in a namespace
 * beside (staging.ts), and it comes to the host without them.
 */

import type { JsonObject } from '../../cni/spec/request.ts';
import {
  type CachedResult,
  readCachedResults,
  removeCachedResult,
  writeCachedResult,
} from '../../networks/cached-results.ts';
import { addByChain, type ChainTarget, removeByChain } from '../../networks/chain.ts';
import { findNetwork, NetworkError, type NetworkList } from '../../networks/list.ts';
import type { NetworkPlace } from '../attach/options.ts';
import type { Staging } from './staging.ts';

/** A request of Docker, by its path: the answer's document. @throws NetworkError, SyscallError: Docker shows the text */
export type DockerDriver = (path: string, request: JsonObject) => JsonObject;

/** How a user has to make the network: otherwise Docker would choose the addresses. */
const advice = 'create the network with "--ipam-driver null": this host\'s subnet has the addresses';

/** The container's end, while it is on the host. Eleven digits tell the host's endpoints apart. */
const interfaceOf = (endpoint: string): string => `wdk${endpoint.slice(0, 11)}`;

function textOf(request: JsonObject, key: string): string {
  const value = request[key];
  return typeof value === 'string' ? value : '';
}

const objectOf = (value: unknown): JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as JsonObject) : {};

/** Docker's ids become parts of paths. @throws NetworkError */
function endpointOf(request: JsonObject): string {
  const id = textOf(request, 'EndpointID');
  if (/^[0-9a-f]{64}$/.test(id)) return id;
  throw new NetworkError('The request names no endpoint');
}

/** Whether a pool of Docker's IPAM is one that it chose. */
const isChosen = (pool: unknown): boolean =>
  !/^(0\.0\.0\.0|::)\/0$/.test(textOf(objectOf(pool), 'Pool') || '0.0.0.0/0');

const listOf = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);

function checkPools(request: JsonObject): JsonObject {
  const pools = [...listOf(request['IPv4Data']), ...listOf(request['IPv6Data'])];
  if (pools.some(isChosen)) throw new NetworkError(`Weft chooses the addresses: ${advice}`);
  return {};
}

/** Published ports would silently not be there. */
function checkPorts(request: JsonObject): JsonObject {
  const ports = listOf(objectOf(request['Options'])['com.docker.network.portmap']);
  if (ports.length === 0) return {};
  throw new NetworkError("Weft's network publishes no ports (-p): every host reaches the container by its own address");
}

/** An address of a result, and its gateway. */
function ipOf(result: JsonObject, family: 4 | 6): { readonly address: string; readonly gateway: string } | undefined {
  const found = listOf(result['ips']).map(objectOf);
  const ip = found.find((each) => textOf(each, 'address').includes(':') === (family === 6));
  return ip && { address: textOf(ip, 'address'), gateway: textOf(ip, 'gateway') };
}

/** Only the plugin that attaches: others of the list work in the container's namespace, which is not there yet. */
function listFor(place: NetworkPlace, network: string): NetworkList {
  const list = findNetwork(place.sys, place.confDir, network);
  const plugin = list.plugins.find(({ type }) => type === 'weft');
  if (!plugin) throw new NetworkError(`The network "${network}" has no plugin "weft"`);
  const text = JSON.stringify({ cniVersion: list.cniVersion, name: list.name, plugins: [plugin] });
  return { ...list, plugins: [plugin], text };
}

const targetOf = (endpoint: string, netns: string, mac = ''): ChainTarget => ({
  containerId: endpoint,
  ifname: interfaceOf(endpoint),
  netns,
  args: [['IgnoreUnknown', '1'], ...(mac === '' ? [] : [['MAC', mac] as const])],
  capabilityArgs: {},
});

export function openDriver(
  place: NetworkPlace,
  network: string,
  staging: Pick<Staging, 'path' | 'bringHome'>,
): DockerDriver {
  const { sys, cacheDir } = place;

  const findRecord = (endpoint: string): CachedResult | undefined =>
    readCachedResults(sys, cacheDir).entries.find((each) => each.network === network && each.containerId === endpoint);

  function createEndpoint(request: JsonObject): JsonObject {
    const endpoint = endpointOf(request);
    const wanted = objectOf(request['Interface']);
    if (textOf(wanted, 'Address') !== '') throw new NetworkError(`Weft chooses the addresses: ${advice}`);
    const mac = textOf(wanted, 'MacAddress');
    const list = listFor(place, network);
    const target = targetOf(endpoint, staging.path, mac);
    try {
      const result = addByChain(place, list, target);
      staging.bringHome(target.ifname);
      const { containerId, ifname, args } = target;
      const entry = { network, containerId, ifname, args, netns: '', capabilityArgs: {}, config: list.text, result };
      writeCachedResult(sys, cacheDir, entry);
      const made = listOf(result['interfaces'])
        .map(objectOf)
        .find((each) => textOf(each, 'name') === ifname);
      return {
        Interface: {
          Address: ipOf(result, 4)?.address ?? '',
          AddressIPv6: ipOf(result, 6)?.address ?? '',
          // Docker refuses what it has chosen itself.
          MacAddress: mac === '' && made ? textOf(made, 'mac') : '',
        },
      };
    } catch (error) {
      removeByChain(place, list, target, undefined);
      throw error;
    }
  }

  function join(request: JsonObject): JsonObject {
    const endpoint = endpointOf(request);
    const record = findRecord(endpoint);
    if (!record) throw new NetworkError('This endpoint was not made by Weft, or is gone');
    return {
      InterfaceName: { SrcName: record.ifname, DstPrefix: 'eth' },
      Gateway: ipOf(record.result, 4)?.gateway ?? '',
      GatewayIPv6: ipOf(record.result, 6)?.gateway ?? '',
    };
  }

  function deleteEndpoint(request: JsonObject): JsonObject {
    const endpoint = endpointOf(request);
    const record = findRecord(endpoint);
    const list = listFor(place, network);
    const [failure] = removeByChain(place, list, targetOf(endpoint, ''), record?.result);
    if (failure) throw failure;
    if (record) removeCachedResult(sys, cacheDir, record);
    return {};
  }

  const handlers: Readonly<Record<string, (request: JsonObject) => JsonObject>> = {
    '/Plugin.Activate': () => ({ Implements: ['NetworkDriver'] }),
    '/NetworkDriver.GetCapabilities': () => ({ Scope: 'local', ConnectivityScope: 'global' }),
    '/NetworkDriver.CreateNetwork': checkPools,
    '/NetworkDriver.DeleteNetwork': () => ({}),
    '/NetworkDriver.CreateEndpoint': createEndpoint,
    '/NetworkDriver.EndpointOperInfo': () => ({ Value: {} }),
    '/NetworkDriver.DeleteEndpoint': deleteEndpoint,
    '/NetworkDriver.Join': join,
    '/NetworkDriver.Leave': () => ({}),
    '/NetworkDriver.DiscoverNew': () => ({}),
    '/NetworkDriver.DiscoverDelete': () => ({}),
    '/NetworkDriver.ProgramExternalConnectivity': checkPorts,
    '/NetworkDriver.RevokeExternalConnectivity': () => ({}),
  };
  return (path, request) => {
    const handle = Object.hasOwn(handlers, path) ? handlers[path] : undefined;
    if (!handle) throw new NetworkError(`Weft's driver knows no "${path.slice(0, 100)}"`);
    return handle(request);
  };
}
