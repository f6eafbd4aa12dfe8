/** The benches named on the command line, or all of them. */

import { benchAdd, benchBurst } from './add.ts';
import { benchHeal } from './heal.ts';
import { BenchHost } from './host.ts';
import { benchPeers } from './peers.ts';
import { benchReservations } from './reservations.ts';
import { benchSingleChanges } from './single-changes.ts';
import { benchStart } from './start.ts';

const benches: Record<string, (host: BenchHost) => string | Promise<string>> = {
  start: (host) => benchStart(host, 100),
  add: (host) => benchAdd(host, 60),
  burst: (host) => benchBurst(host, 60),
  heal: () => benchHeal(Number(process.env['WEFT_BENCH_HEAL'] ?? 20)),
  peers: (host) => benchPeers(host, peerCounts()),
  changes: (host) => benchSingleChanges(host, peerCounts()),
  reservations: (host) => benchReservations(host, [0, 5_000, 30_000], 20),
};

function peerCounts(): number[] {
  return (process.env['WEFT_BENCH_PEERS'] ?? '100,1000,5000').split(',').map(Number);
}

const names = process.argv.slice(2);
const unknown = names.find((name) => !benches[name]);
if (unknown) {
  console.error(`bench: there is no "${unknown}": choose from ${Object.keys(benches).join(', ')}`);
  process.exit(2);
}
const host = new BenchHost();
try {
  for (const name of names.length > 0 ? names : Object.keys(benches)) console.log(`${await benches[name]!(host)}\n`);
} finally {
  host.remove();
}
