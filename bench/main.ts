/**
 * The benches named on the command line, or all of them. `--quick` takes fewer samples of the plugins and ends within 3
 * minutes; `--json FILE` writes all figures into a file.
 */

import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { benchAdd, benchBurst } from './add.ts';
import { benchHeal } from './heal.ts';
import { BenchHost } from './host.ts';
import { takeOrphans } from './orphans.ts';
import { benchPeers } from './peers.ts';
import { benchReservations } from './reservations.ts';
import { reported } from './sample.ts';
import { benchSingleChanges } from './single-changes.ts';
import { benchStart } from './start.ts';

const { values, positionals: names } = parseArgs({
  options: { quick: { type: 'boolean' }, json: { type: 'string' } },
  allowPositionals: true,
});
const isQuick = values.quick === true;
const count = (whole: number, quick: number): number => (isQuick ? quick : whole);

/** How many at once, and how often. */
const bursts = isQuick
  ? [{ atOnce: 16, rounds: 4 }]
  : [
      { atOnce: 16, rounds: 20 },
      { atOnce: 60, rounds: 6 },
      { atOnce: 200, rounds: 2 },
    ];

async function benchBursts(host: BenchHost): Promise<string> {
  const tables: string[] = [];
  for (const { atOnce, rounds } of bursts) tables.push(await benchBurst(host, atOnce, rounds));
  return tables.join('\n\n');
}

const benches: Record<string, (host: BenchHost) => string | Promise<string>> = {
  start: (host) => benchStart(host, count(200, 50)),
  add: (host) => benchAdd(host, count(100, 25)),
  masquerade: (host) => benchAdd(host, count(40, 10), 'masquerade'),
  dual: (host) => benchAdd(host, count(40, 10), 'dual'),
  burst: (host) => benchBursts(host),
  heal: () => benchHeal(Number(process.env['WEFT_BENCH_HEAL'] ?? 20)),
  peers: (host) => benchPeers(host, peerCounts()),
  changes: (host) => benchSingleChanges(host, peerCounts()),
  reservations: (host) => benchReservations(host, [0, 5_000, 30_000], count(20, 5)),
};
/** Those that take minutes are none of `--quick`. */
const slow = ['heal', 'peers', 'changes'];

function peerCounts(): number[] {
  return (process.env['WEFT_BENCH_PEERS'] ?? '100,1000,5000').split(',').map(Number);
}

const unknown = names.find((name) => !benches[name]);
if (unknown) {
  console.error(`bench: there is no "${unknown}": choose from ${Object.keys(benches).join(', ')}`);
  process.exit(2);
}
takeOrphans();
const host = new BenchHost();
const all = Object.keys(benches).filter((name) => !isQuick || !slow.includes(name));
try {
  for (const name of names.length > 0 ? names : all) console.log(`${await benches[name]!(host)}\n`);
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(reported, undefined, 2)}\n`);
} finally {
  host.remove();
}
