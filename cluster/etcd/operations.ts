/** The metrics' names of requests to etcd. */

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
