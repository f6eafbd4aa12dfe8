/** Stops containers by the runtimes that started them, so that these call the plugins to detach them. */

import { spawnSync } from 'node:child_process';
import { defaultPaths } from '../../net/paths.ts';
import { openAttachmentReader } from '../../reservations/attachments.ts';
import { CliError, type CliHost } from '../host.ts';
import { askCri, criSocketsHere } from './runtime.ts';

/** A container's interface in a network of Weft. */
export interface LiveContainer {
  readonly containerId: string;
  readonly ifname: string;
  readonly network: string;
}

const stopTimeoutMs = 60_000;
const goneWaitMs = 30_000;
const pollMs = 200;

const isId = (text: string): boolean => /^[0-9a-zA-Z][\w.-]{0,127}$/.test(text);

/** The socket of the CRI runtime whose pod it is. */
async function findPod(id: string): Promise<string | undefined> {
  for (const socket of criSocketsHere()) {
    try {
      // Stopping succeeds for pods that the runtime does not know.
      await askCri(socket, 'PodSandboxStatus', { 1: id });
      return socket;
    } catch (error) {
      if (!(error instanceof CliError)) throw error;
    }
  }
  return undefined;
}

/** Whether a CRI runtime has stopped the pod. @throws CliError: it cannot */
async function stopPod(id: string): Promise<boolean> {
  const socket = await findPod(id);
  if (socket === undefined) return false;
  await askCri(socket, 'StopPodSandbox', { 1: id }, stopTimeoutMs);
  await askCri(socket, 'RemovePodSandbox', { 1: id }, stopTimeoutMs);
  return true;
}

/** Whether Podman has stopped the container. */
function stopPodman(id: string): boolean {
  const { status } = spawnSync('podman', ['stop', '--time', '10', '--', id], {
    timeout: stopTimeoutMs,
    killSignal: 'SIGKILL',
    stdio: 'ignore',
  });
  return status === 0;
}

/** Stops those that a runtime knows, and waits until their interfaces are gone. */
export async function drain(
  host: CliHost,
  containers: readonly LiveContainer[],
  tell: (line: string) => void,
): Promise<void> {
  const ids = [...new Set(containers.map(({ containerId }) => containerId))].filter(isId);
  let stopped = 0;
  for (const id of ids) {
    try {
      if ((await stopPod(id)) || stopPodman(id)) {
        stopped++;
        tell(`stopped ${id}`);
      } else tell(`no runtime of this host knows ${id}`);
    } catch (error) {
      if (!(error instanceof CliError)) throw error;
      tell(`${id} does not stop: ${error.message}`);
    }
  }
  if (stopped === 0) return;
  const sys = await host.loadSys();
  for (let waitedMs = 0; waitedMs < goneWaitMs; waitedMs += pollMs) {
    const left = openAttachmentReader(sys, defaultPaths.cniDataDir)
      .list()
      .filter((attachment) => attachment.host !== 'missing');
    if (left.length <= ids.length - stopped) return;
    await new Promise((resolve) => setTimeout(resolve, pollMs));
  }
}
