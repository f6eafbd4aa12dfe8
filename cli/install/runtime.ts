/** What a CRI runtime says of itself: its folders, and whether it has loaded a network. */

import { lstatSync } from 'node:fs';
import { RuntimeError } from '../../runtimes/container.ts';
import { callCri } from '../../runtimes/cri.ts';
import { criSockets } from '../../runtimes/on-this-host.ts';
import { type Fields, messagesOf, ProtobufError, textOf } from '../../runtimes/protobuf.ts';
import { CliError } from '../host.ts';
import type { Folders } from './host-facts.ts';

export const isSocket = (path: string): boolean => {
  try {
    return lstatSync(path, { throwIfNoEntry: false })?.isSocket() === true;
  } catch {
    return false;
  }
};

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function parseObject(text: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : {};
  } catch {
    return {};
  }
}

const pathIn = (value: unknown): string | undefined =>
  typeof value === 'string' && /^(\/[^/\p{Cc}]+)+\/?$/u.test(value) ? value : undefined;

const firstPath = (value: unknown): string | undefined =>
  Array.isArray(value) ? value.map(pathIn).find((path) => path !== undefined) : pathIn(value);

/** The folders in the `info` of containerd's verbose status. CRI-O's has none. */
export function foldersOfInfo(info: ReadonlyMap<string, string>): { plugins?: string; networks?: string } {
  const config = parseObject(info.get('config') ?? '');
  const cni = isObject(config['cni']) ? config['cni'] : {};
  const loaded = parseObject(info.get('cniconfig') ?? '');
  // Since 2.1 containerd has a list of folders.
  const plugins = firstPath(cni['binDirs']) ?? firstPath(cni['binDir']) ?? firstPath(loaded['PluginDirs']);
  const networks = firstPath(cni['confDir']) ?? firstPath(loaded['PluginConfDir']);
  return { ...(plugins === undefined ? {} : { plugins }), ...(networks === undefined ? {} : { networks }) };
}

/** Names of the networks that the runtime has loaded; undefined if it does not tell. */
export function networksOfInfo(info: ReadonlyMap<string, string>): string[] | undefined {
  const { Networks: networks } = parseObject(info.get('cniconfig') ?? '');
  if (!Array.isArray(networks)) return undefined;
  return networks.flatMap((network: unknown) => {
    const config = isObject(network) ? network['Config'] : undefined;
    const name = isObject(config) ? config['Name'] : undefined;
    return typeof name === 'string' ? [name] : [];
  });
}

interface RuntimeStatus {
  readonly info: ReadonlyMap<string, string>;
  /** Why the runtime has no network; undefined if it has one. */
  readonly networkProblem?: string;
}

/** A call whose failure is one line for the person. @throws CliError */
export async function askCri(
  socket: string,
  method: string,
  fields: Parameters<typeof callCri>[3],
  timeoutMs?: number,
): Promise<Fields> {
  const title = criSockets.find(([path]) => path === socket)?.[1] ?? 'the container runtime';
  try {
    return await callCri(title, socket, method, fields, timeoutMs);
  } catch (error) {
    if (error instanceof RuntimeError || error instanceof ProtobufError) throw new CliError(error.message, [], error);
    throw error;
  }
}

/** The sockets of CRI runtimes on this host. */
export const criSocketsHere = (): string[] => criSockets.map(([path]) => path).filter(isSocket);

async function readStatus(socket: string): Promise<RuntimeStatus> {
  const answer = await askCri(socket, 'Status', { 1: true });
  const info = new Map(messagesOf(answer, 2).map((entry) => [textOf(entry, 1), textOf(entry, 2)]));
  const conditions = messagesOf(answer, 1).flatMap((status) => messagesOf(status, 1));
  const network = conditions.find((condition) => textOf(condition, 1) === 'NetworkReady');
  // A network that is not ready has a reason; a ready one has none.
  const problem = network && (textOf(network, 4) || textOf(network, 3));
  return { info, ...(problem ? { networkProblem: problem } : {}) };
}

/**
 * Asks the CRI runtime of this host for its folders.
 * @param given the socket that the person names; its failure is an error
 * @returns undefined if no runtime answers that tells its folders
 */
export async function askRuntime(
  given: string | undefined,
): Promise<(Folders & { readonly asked: string }) | undefined> {
  for (const socket of given === undefined ? criSocketsHere() : [given]) {
    try {
      const { info } = await readStatus(socket);
      const { plugins, networks } = foldersOfInfo(info);
      if (plugins !== undefined && networks !== undefined) {
        return { plugins, networks, from: `the runtime on ${socket}`, asked: socket };
      }
    } catch (error) {
      // Docker's containerd has CRI switched off.
      if (!(error instanceof CliError) || given !== undefined) throw error;
    }
  }
  return undefined;
}

const networkWaitMs = 10_000;
const pollMs = 250;
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits until the runtime has loaded the network. @returns a line for the person */
export async function waitForNetwork(socket: string, network: string): Promise<string> {
  let why = '';
  for (let waitedMs = 0; waitedMs < networkWaitMs; waitedMs += pollMs) {
    try {
      const { info, networkProblem } = await readStatus(socket);
      const loaded = networksOfInfo(info);
      if (loaded?.includes(network) || (loaded === undefined && networkProblem === undefined)) {
        return `the runtime has loaded the network "${network}"`;
      }
      why = networkProblem ?? `it has loaded ${(loaded ?? []).join(', ') || 'nothing'}`;
    } catch (error) {
      if (!(error instanceof CliError)) throw error;
      why = error.message;
    }
    await pause(pollMs);
  }
  return `the runtime has not loaded the network "${network}" yet: ${why}`;
}
