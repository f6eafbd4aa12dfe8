/**
 * An adversary with a node's rights in etcd, to be run in its host's network namespace: `adversary.main.ts FILE`, where FILE
 * holds `AdversaryOptions` as JSON. Prints a line for each act, at SIGINT a last one with `AdversaryReport` as JSON. With
 * `clean` after FILE it only takes back all but the victims' leases and records.
 */

import { readFileSync } from 'node:fs';
import { Etcd3 } from 'etcd3';
import { type Act, HostileActs, type HostileOptions } from './hostile-acts.ts';

export interface AdversaryOptions extends HostileOptions {
  readonly endpoint: string;
  readonly caFile: string;
  readonly certFile: string;
  readonly keyFile: string;
  readonly actsPerSecond: number;
}

export interface AdversaryReport {
  readonly acts: number;
  /** etcd's answers to acts that it refused, with how often. */
  readonly refused: Readonly<Record<string, number>>;
}

const options = JSON.parse(readFileSync(process.argv[2]!, 'utf8')) as AdversaryOptions;
const client = new Etcd3({
  hosts: options.endpoint,
  credentials: {
    rootCertificate: readFileSync(options.caFile),
    certChain: readFileSync(options.certFile),
    privateKey: readFileSync(options.keyFile),
  },
});
const acts = new HostileActs(options);
const refused: Record<string, number> = {};
let done = 0;
let ended = false;

/** Shared by all keys that are to go by themselves, for a while. */
let shortLease = '0';
async function renewShortLease(): Promise<void> {
  shortLease = (await client.leaseClient.leaseGrant({ TTL: 2, ID: 0 })).ID;
}

async function apply(act: Act): Promise<void> {
  if ('revokeLeaseOf' in act) {
    const { kvs } = await client.kv.range({ key: act.revokeLeaseOf });
    const lease = kvs[0]?.lease ?? '0';
    if (lease !== '0') await client.leaseClient.leaseRevoke({ ID: lease });
    return;
  }
  const success = act.writes.map((write) =>
    'put' in write
      ? { request_put: { key: write.put, value: write.value, lease: write.life === 'short' ? shortLease : '0' } }
      : { request_delete_range: { key: write.delete, ...(write.end && { range_end: write.end }) } },
  );
  await client.kv.txn({ success });
}

process.once('SIGINT', () => {
  ended = true;
});

/** Keys of any bytes, so that no other tool could name them. */
async function clean(): Promise<void> {
  const { prefix, victims } = options;
  const kept = victims.flatMap(({ name, node }) => [`${prefix}subnets/${name}`, `${prefix}nodes/${node}`]);
  for (const folder of ['subnets', 'nodes']) {
    // "0" follows "/".
    const range = { key: Buffer.from(`${prefix}${folder}/`), range_end: Buffer.from(`${prefix}${folder}0`) };
    const { kvs } = await client.kv.range({ ...range, keys_only: true });
    for (const { key } of kvs) if (!kept.includes(key.toString('latin1'))) await client.kv.deleteRange({ key });
  }
}

if (process.argv[3] === 'clean') {
  await clean();
  process.exit(0);
}

const startMs = performance.now();
let leaseMadeMs = Number.NEGATIVE_INFINITY;
while (!ended) {
  const dueMs = startMs + (done * 1000) / options.actsPerSecond;
  const waitMs = dueMs - performance.now();
  if (waitMs > 1) await new Promise((resolve) => setTimeout(resolve, waitMs));
  const act = acts.next();
  try {
    if (performance.now() - leaseMadeMs > 500) {
      await renewShortLease();
      leaseMadeMs = performance.now();
    }
    await apply(act);
  } catch (error) {
    const reason = String((error as Error).message).slice(0, 200);
    refused[reason] = (refused[reason] ?? 0) + 1;
  }
  done++;
  console.log(`${new Date().toISOString()} ${act.label}`);
}
process.stdout.write(`${JSON.stringify({ acts: done, refused } satisfies AdversaryReport)}\n`, () => process.exit(0));
