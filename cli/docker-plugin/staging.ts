/**
 * The namespace in which ADD makes the container's end. Docker itself moves that end into the container, and takes it from the
 * host: so it is moved there, without the addresses and routes that ADD gave it, which must not appear on the host.
 *
 * A helper holds the namespace, for as long as this process lives: it reads from a pipe that nobody writes to.
 */

import { spawn } from 'node:child_process';
import { openNetlink } from '../../linux/netlink/connection.ts';
import { getLinkIndex } from '../../linux/netlink/link.ts';
import { moveLink } from '../../linux/netlink/link-move.ts';
import { openCurrentNamespace } from '../../linux/netns.ts';
import { namespaceIdentity } from '../../linux/process.ts';
import type { Sys } from '../../linux/sys.ts';
import { inNamespaceOf } from '../attach/records.ts';
import { CliError } from '../host.ts';

export interface Staging {
  /** The namespace's path. */
  readonly path: string;
  /** Moves an interface from there to the host. @throws NetlinkError, SyscallError */
  bringHome(ifname: string): void;
  /** Ends only by a failure. */
  readonly ended: Promise<never>;
}

const pauseMs = 5;
const deadlineMs = 10_000;
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** @throws CliError */
export async function openStaging(sys: Sys): Promise<Staging> {
  const helper = spawn('unshare', ['--net', 'cat'], { stdio: ['pipe', 'ignore', 'ignore'] });
  let failure: CliError | undefined;
  const ended = new Promise<never>((_, reject) => {
    const fail = (why: string): void => {
      failure = new CliError(`Cannot keep a network namespace by "unshare" (util-linux): ${why}`);
      reject(failure);
    };
    helper.on('error', (error: NodeJS.ErrnoException) => fail(error.code ?? 'it cannot be started'));
    helper.on('exit', (status, signal) => fail(`it has ended (${signal ?? `status ${status}`})`));
  });
  ended.catch(() => {});
  const path = `/proc/${helper.pid}/ns/net`;
  const own = namespaceIdentity(sys, '/proc/self/ns/net');
  for (let waitedMs = 0; helper.pid === undefined || namespaceIdentity(sys, path) === own; waitedMs += pauseMs) {
    await pause(pauseMs);
    if (failure) throw failure;
    if (waitedMs > deadlineMs) throw new CliError('"unshare" (util-linux) makes no network namespace');
  }
  return {
    path,
    ended,
    bringHome(ifname) {
      const home = openCurrentNamespace(sys);
      try {
        const connection = inNamespaceOf(sys, path, () => openNetlink(sys));
        try {
          const index = connection.get(getLinkIndex(ifname));
          if (index === undefined) throw new CliError(`The plugin made no interface "${ifname}"`);
          connection.execute([moveLink(index, home)]);
        } finally {
          connection.close();
        }
      } finally {
        sys.close(home);
      }
    },
  };
}
