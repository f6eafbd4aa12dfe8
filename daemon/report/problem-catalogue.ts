/**
 * Every kind of problem that weftd reports by itself. Log lines contain the kind. Programs may depend on the code.
 */

import type { CheckHead } from './check.ts';

export interface ProblemHead extends CheckHead {
  /** Whether it is this node's own: a node is well if it has only other nodes' problems. */
  readonly isOwn: boolean;
}

const error = (code: string, title: string) => ({ code, title, severity: 'error', isOwn: true }) as const;
const warning = (code: string, title: string) => ({ code, title, severity: 'warning', isOwn: true }) as const;
/** Another node's problem. */
const others = (code: string, title: string) => ({ code, title, severity: 'warning', isOwn: false }) as const;

export const problemKinds = {
  // The cluster.
  etcd: error('etcd', 'etcd does not answer, or refuses'),
  kubernetes: error('kubernetes', 'the API server of Kubernetes does not answer, or refuses'),
  cluster: error('cluster', 'the cluster cannot be followed'),
  'network config': error('network-config', 'the network config is missing or cannot be used'),
  'subnet lease': error('subnet-lease', 'this node cannot get a subnet'),
  'lost subnet': error('lost-subnet', 'another node has the subnet of this node'),
  'contested lease': error('contested-lease', "somebody else keeps writing this node's lease"),
  'shared address': error('shared-address', "another living node has this node's public address"),
  'older rival': error('older-rival', "an older lease has a part of this node's subnet, or its MAC"),
  'younger rival': others('younger-rival', "another node's younger lease has a part of this node's subnet, or its MAC"),
  lease: others('lease', "another node's lease cannot be read"),
  'lost leases': warning('lost-leases', 'etcd has lost leases'),
  liveness: warning('liveness', 'the cluster cannot be told that this node is alive'),
  'node name': warning('node-name', 'another host has the name of this node'),
  // The host.
  'external interface': error('external-interface', 'the external interface is missing or is not the right one'),
  flanneld: error('flanneld', 'flanneld still runs on this host, and weftd waits'),
  'subnet carrier': error('subnet-carrier', "several interfaces have this node's subnet"),
  kernel: error('kernel', 'the data path cannot be compared with the kernel'),
  device: error('device', 'a tunnel device cannot be created'),
  MTU: warning('mtu', 'the MTU is too small'),
  route: error('route', "another program's route is in the way"),
  step: error('step', 'the kernel refuses a change'),
  sysctl: error('sysctl', 'a kernel setting cannot be written'),
  peer: others('peer', 'a peer cannot be reached'),
  'packet filter': error('packet-filter', 'the packet filter cannot be set'),
  forwarding: error('forwarding', "another program's rules drop the cluster's packets"),
  'network events': warning('network-events', 'events of network changes are missing'),
  'packet filter events': warning('packet-filter-events', 'events of packet filter changes are missing'),
  // weftd itself.
  'node files': error('node-files', 'the files for the plugins cannot be written'),
  'state file': warning('state-file', "weftd's state cannot be written"),
  memory: warning('memory', 'the file of known peers cannot be read or written'),
  task: warning('task', 'a task of weftd fails'),
} as const satisfies Readonly<Record<string, ProblemHead>>;

export type ProblemKind = keyof typeof problemKinds;
