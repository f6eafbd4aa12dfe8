/** `weftctl status --wait`: waits until containers can start on this host, and says on stderr why they cannot yet. */

import type { NodeStatus } from '../cluster/status.ts';
import { printable } from '../command/printable.ts';
import { CliError, type CliHost } from './host.ts';
import type { Source } from './source.ts';

const pauseMs = 200;

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Waiting does not help. */
const isFinal = ({ cause }: CliError): boolean => {
  const code = (cause as { code?: unknown } | undefined)?.code;
  return code === 'EACCES' || code === 'EPERM';
};

/** Why the node is not ready; undefined if it is. A node with problems may well be. */
function reasonOf({ state, stuck, problems }: NodeStatus): string | undefined {
  if (stuck !== undefined) return `weftd itself is stuck: ${stuck}`;
  if (state === 'running' || state === 'degraded') return undefined;
  return problems[0] ?? (state === 'stopping' ? 'weftd is stopping' : 'weftd has started a moment ago');
}

async function askReason(source: Source): Promise<string | undefined> {
  try {
    return reasonOf(await source.status());
  } catch (error) {
    if (!(error instanceof CliError) || isFinal(error)) throw error;
    return error.message;
  }
}

/**
 * @param timeoutMs 0: without end
 * @throws CliError when time has run out
 */
export async function waitUntilReady(host: CliHost, source: Source, timeoutMs: number): Promise<void> {
  let told: string | undefined;
  for (let waitedMs = 0; ; waitedMs += pauseMs) {
    const reason = await askReason(source);
    if (reason === undefined) return;
    if (timeoutMs > 0 && waitedMs >= timeoutMs) {
      throw new CliError(`This host is not ready after ${timeoutMs / 1000} s: ${reason}`);
    }
    // A problem may contain a time or a count that changes.
    const kind = reason.replace(/\d+/g, '0');
    if (kind !== told) host.stderr(`weftctl: waiting: ${printable(reason)}\n`);
    told = kind;
    await pause(pauseMs);
  }
}
