/**
 * `weftctl attach`: one more interface for a running container, as pipework makes them, by the plugins of a network. The
 * container's runtime knows nothing of it. When the container ends or restarts, the interface is gone with its namespace,
 * and `weftctl gc` frees the rest.
 */

import { interfaceNameProblem } from '../../cni/spec/environment.ts';
import { UsageError } from '../../command/options.ts';
import { NetlinkError, SyscallError } from '../../linux/errors.ts';
import { ensureDirectory } from '../../linux/files.ts';
import { withLock } from '../../linux/lock.ts';
import { namespaceIdentity, readStartTime } from '../../linux/process.ts';
import { parseAddress } from '../../net/address.ts';
import { formatMac, isUnicastMac, parseMac } from '../../net/mac.ts';
import { type AttachedBy, readCachedResults, writeCachedResult } from '../../networks/cached-results.ts';
import { addByChain, type ChainTarget, removeByChain } from '../../networks/chain.ts';
import { findNetwork, NetworkError, type NetworkList } from '../../networks/list.ts';
import { type Container, RuntimeError } from '../../runtimes/container.ts';
import { findContainer } from '../../runtimes/find-container.ts';
import { runtimesOfHost } from '../../runtimes/on-this-host.ts';
import { CliError } from '../host.ts';
import type { VerbContext } from '../verb.ts';
import { type NetworkPlace, networkPlace } from './options.ts';
import {
  type AttachmentRecord,
  addressesOf,
  hasInterface,
  inNamespaceOf,
  isAlive,
  lockPath,
  namespacePathOf,
  readRecords,
  removeRecord,
} from './records.ts';
import { clusterNetworks, containerNetlink, familiesWithDefault, putSecond } from './routes.ts';

/** Names of further interfaces: `eth1` to this. */
const mostInterfaces = 99;

interface Wish {
  readonly ip: string | undefined;
  readonly mac: string | undefined;
  readonly name: string | undefined;
}

function readWish({ options }: Pick<VerbContext, 'options'>): Wish {
  const [ip, mac, name] = ['ip', 'mac', 'name'].map((key) => options.text(key));
  if (ip !== undefined && !parseAddress(ip)) throw new UsageError(`"${ip}" (--ip) is not an IP address`);
  const parsed = mac === undefined ? undefined : parseMac(mac);
  if (mac !== undefined && !(parsed && isUnicastMac(parsed))) {
    throw new UsageError(`"${mac}" (--mac) is not an interface's MAC address`);
  }
  const problem = name === undefined ? undefined : interfaceNameProblem(name);
  if (problem !== undefined) throw new UsageError(`"${name}" (--name) ${problem}`);
  return { ip, mac: parsed && formatMac(parsed), name };
}

/** The running process, and the id by which the plugins know the container. */
interface Subject {
  readonly container: Container;
  readonly containerId: string;
  readonly pid: number;
  readonly startTime: string;
  readonly netns: string;
}

function subjectOf({ sys }: NetworkPlace, container: Container, word: string): Subject {
  const { pid } = container;
  const startTime = pid === undefined ? undefined : readStartTime(sys, pid);
  if (pid === undefined || startTime === undefined) {
    throw new CliError(`The container "${word}" is not running: only a running container has interfaces`);
  }
  const netns = namespacePathOf(pid);
  if (namespaceIdentity(sys, netns) === namespaceIdentity(sys, '/proc/self/ns/net')) {
    throw new CliError(`"${word}" uses the host's own network: there is nothing to attach`);
  }
  const containerId = container.id === '' ? `pid-${pid}-${startTime}` : container.id;
  return { container, containerId, pid, startTime, netns };
}

function chooseName({ sys }: NetworkPlace, { netns }: Subject, wanted: string | undefined): string {
  if (wanted !== undefined) {
    if (!hasInterface(sys, netns, wanted)) return wanted;
    throw new CliError(`The container already has an interface "${wanted}": choose another by --name`);
  }
  for (let i = 1; i <= mostInterfaces; i++) if (!hasInterface(sys, netns, `eth${i}`)) return `eth${i}`;
  throw new CliError(`The container already has eth1 to eth${mostInterfaces}: name the interface by --name`);
}

/** Frees what an earlier run of the same container had: that run's namespace is gone. */
function removeFormer(place: NetworkPlace, containerId: string): void {
  const former = readRecords(place).filter((each) => each.containerId === containerId && !isAlive(place.sys, each));
  for (const record of former) removeRecord(place, record);
}

function attach(place: NetworkPlace, list: NetworkList, subject: Subject, wish: Wish, since: string): AttachmentRecord {
  const { sys, cacheDir } = place;
  const { containerId, container, pid, startTime, netns } = subject;
  removeFormer(place, containerId);
  const ifname = chooseName(place, subject, wish.name);
  const id = { network: list.name, containerId, ifname };
  const isKnown = readCachedResults(sys, cacheDir).entries.some(
    (each) => each.network === id.network && each.containerId === containerId && each.ifname === ifname,
  );
  // A failed ADD is followed by DEL, which would take that one's address.
  if (isKnown)
    throw new CliError(`The network "${list.name}" already knows "${ifname}" of this container: choose another --name`);
  const args: [string, string][] = [['IgnoreUnknown', '1']];
  if (wish.ip !== undefined) args.push(['IP', wish.ip]);
  if (wish.mac !== undefined) args.push(['MAC', wish.mac]);
  const target: ChainTarget = { containerId, ifname, netns, args, capabilityArgs: {} };
  const attachedBy: AttachedBy = { runtime: container.runtime, name: container.name, pid, startTime, since };
  const remove = (): string[] =>
    removeByChain(place, list, target, undefined).map((failure) => `its removal failed, too: ${failure.message}`);
  let record: AttachmentRecord;
  try {
    const inContainer = containerNetlink(sys, (body) => inNamespaceOf(sys, netns, body));
    const kept = familiesWithDefault(inContainer);
    const result = addByChain(place, list, target);
    putSecond(inContainer, ifname, kept, clusterNetworks(sys, list, addressesOf(result)));
    record = { ...id, netns, args, capabilityArgs: {}, config: list.text, result, attachedBy };
    writeCachedResult(sys, cacheDir, record);
  } catch (error) {
    const isExpected = [NetworkError, SyscallError, NetlinkError].some((kind) => error instanceof kind);
    if (!isExpected) throw error;
    const details = error instanceof NetworkError ? error.details : [];
    throw new CliError((error as Error).message, [...details, ...remove()], error);
  }
  if (isAlive(sys, record)) return record;
  removeRecord(place, record);
  throw new CliError(`The container has ended meanwhile: nothing is attached`);
}

export async function run(context: VerbContext): Promise<number> {
  const { host, words, options } = context;
  const [word, network] = words;
  if (word === undefined || network === undefined) {
    throw new UsageError('"attach" needs a container, or the number of a process, and a network');
  }
  const wish = readWish(context);
  const place = await networkPlace(host, options);
  const { sys } = place;
  try {
    const list = findNetwork(sys, place.confDir, network);
    const container = await findContainer(sys, runtimesOfHost(sys, host.environment), word);
    const subject = subjectOf(place, container, word);
    ensureDirectory(sys, place.cacheDir, 0o700);
    const since = new Date(host.nowMs()).toISOString();
    const record = withLock(sys, lockPath(place.cacheDir), () => attach(place, list, subject, wish, since));
    if (options.flag('json')) {
      host.stdout(`${JSON.stringify(record.result, null, 2)}\n`);
    } else {
      const addresses = addressesOf(record.result).join(' and ') || 'no address';
      host.stdout(`${word} has ${record.ifname} with ${addresses} in the network "${list.name}".\n`);
    }
    return 0;
  } catch (error) {
    throw toCliError(error);
  }
}

/** Errors of the networks, the runtimes and the kernel are one line for the user. */
export function toCliError(error: unknown): unknown {
  if (error instanceof NetworkError) return new CliError(error.message, error.details, error);
  if (error instanceof RuntimeError || error instanceof SyscallError || error instanceof NetlinkError)
    return new CliError(error.message, [], error);
  return error;
}
