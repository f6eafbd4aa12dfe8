/**
 * The runtimes of this host, by the sockets and programs in their usual places. The variables by which the runtimes' own
 * tools find them come first: DOCKER_HOST, CONTAINER_HOST (Podman) and CONTAINER_RUNTIME_ENDPOINT (crictl).
 */

import { type Sys, stat } from '../linux/sys.ts';
import type { Runtime } from './container.ts';
import { openCri } from './cri.ts';
import { openDocker } from './docker.ts';
import { openPodman } from './podman.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** The usual places of CRI runtimes, with the runtimes' names. */
export const criSockets = [
  ['/run/containerd/containerd.sock', 'containerd'],
  ['/run/crio/crio.sock', 'CRI-O'],
  ['/run/k3s/containerd/containerd.sock', "k3s' containerd"],
  ['/run/cri-dockerd.sock', 'cri-dockerd'],
] as const;

const podmanFolders = ['/usr/bin', '/usr/local/bin', '/bin'];

/** Podman makes one of these when it first runs. */
const podmanStates = ['/run/libpod', '/var/lib/containers/storage/libpod'];

/** The path of a `unix://` address; undefined for one over the network. */
const pathOf = (address: string | undefined): string | undefined => /^(?:unix:\/\/)?(\/.*)$/.exec(address ?? '')?.[1];

const isThere = (sys: Sys, path: string): boolean => typeof sys.stat(path) !== 'number';

function isSocket(sys: Sys, path: string): boolean {
  const status = sys.stat(path);
  return typeof status !== 'number' && (status.mode & stat.S_IFMT) === stat.S_IFSOCK;
}

/** Two paths may lead to one socket, as /run and /var/run do. */
function findPodman(sys: Sys, environment: Environment): Runtime | undefined {
  const socket = pathOf(environment['CONTAINER_HOST']);
  if (socket !== undefined) return openDocker(socket, 'podman');
  const program = podmanFolders.map((folder) => `${folder}/podman`).find((path) => isThere(sys, path));
  // The program would make its folders, where it never ran.
  const hasRun =
    environment['CONTAINERS_STORAGE_CONF'] !== undefined || podmanStates.some((path) => isThere(sys, path));
  return program !== undefined && hasRun ? openPodman(sys, program, environment) : undefined;
}

/** Runtimes that seem to be here. One of them may not answer. */
export function runtimesOfHost(sys: Sys, environment: Environment): Runtime[] {
  const docker = pathOf(environment['DOCKER_HOST']) ?? '/run/docker.sock';
  const podman = findPodman(sys, environment);
  const endpoint = pathOf(environment['CONTAINER_RUNTIME_ENDPOINT']);
  const cri =
    endpoint === undefined
      ? criSockets.filter(([path]) => isSocket(sys, path))
      : [[endpoint, 'the CRI runtime'] as const];
  return [
    ...(environment['DOCKER_HOST'] !== undefined || isSocket(sys, docker) ? [openDocker(docker)] : []),
    ...(podman ? [podman] : []),
    ...cri.map(([path, title]) => openCri(path, title)),
  ];
}
