/** Who wants to know how etcd does: every request, connection and watch is told. */

import type { EtcdError } from '../store.ts';

/** denied: rights, credentials, TLS. refused: etcd answered that it will not, for another reason. */
export type EtcdOutcome = 'ok' | 'timeout' | 'unavailable' | 'denied' | 'refused';

export interface EtcdObserver {
  /** @param operation one of a dozen words, such as `list_leases` */
  etcdRequest(operation: string, seconds: number, outcome: EtcdOutcome): void;
  etcdConnection(): void;
  /** etcd confirmed a watch. */
  watchStarted(): void;
  /** A watch has ended against our will. */
  watchLost(): void;
  /** Everything had to be listed anew, since what was known could not be gone on with. */
  watchResync(): void;
  /** The watch told of so many changes. */
  watchEvent(count: number): void;
}

/** By the `op` of the call. */
const operations: Readonly<Record<string, string>> = {
  read: 'heartbeat',
  'follow the leases': 'heartbeat',
  'read the network config': 'read_config',
  'write the network config': 'write_config',
  'list the leases': 'list_leases',
  'claim a subnet': 'claim_lease',
  'renew the lease': 'renew_lease',
  'release the lease': 'release_lease',
  'revoke the lease': 'revoke_lease',
  "publish the node's record": 'publish_node',
  "withdraw the node's record": 'withdraw_node',
  'list the nodes': 'list_nodes',
  'count the nodes': 'count_nodes',
};

export const operationOf = (op: string): string => operations[op] ?? 'other';

export function outcomeOf(failure: EtcdError): EtcdOutcome {
  const text = `${failure.message} ${failure.cause instanceof Error ? failure.cause.message : ''}`;
  if (/DEADLINE_EXCEEDED|Deadline exceeded|request timed out|no answer in time/i.test(text)) return 'timeout';
  if (/permission denied|user name|authentication|auth token|certificate|CERT_|ERR_TLS|ERR_SSL/i.test(text))
    return 'denied';
  return failure.retryable ? 'unavailable' : 'refused';
}
