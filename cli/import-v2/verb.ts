/** The description of `weftctl config import-v2`. */

import type { Verb } from '../verb.ts';

export const importV2Verb: Verb = {
  name: 'config import-v2',
  usage: '[URLS | FILE | -]',
  summary: "bring a flannel 0.11's network config from etcd's v2 API to v3",
  description: `Reads the config and the reservations over etcd's v2 API, and writes them over v3, to --etcd-endpoints. Both
have --etcd-prefix and the other --etcd options. It reads from:

  URLS     these etcd endpoints, comma-separated; without an argument, from --etcd-endpoints
  FILE, -  what curl 'http://127.0.0.1:2379/v2/keys/coreos.com/network?recursive=true' printed before

A backup by "etcdctl backup" first needs an etcd: start one on it with --force-new-cluster --enable-v2.

Leases with a time to live are left: each node takes its subnet again when it starts, by its subnet.env. A config or a
reservation that v3 has already stays, without --force.`,
  options: [
    {
      name: 'force',
      kind: 'flag',
      help: 'replace the config and the reservations that are there',
      commandLineOnly: true,
    },
    { name: 'dry-run', kind: 'flag', help: 'show what would be written and write nothing', commandLineOnly: true },
    {
      name: 'from-prefix',
      kind: 'text',
      placeholder: 'KEY',
      help: 'the prefix of all keys in v2, where it is another one',
      byDefault: 'that of --etcd-prefix',
      commandLineOnly: true,
    },
  ],
  most: 1,
  load: () => import('./run.ts'),
};
