/** ADD and DEL of `weft-ipam` and of host-local, beside few and beside many reservations of other containers. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { BenchHost } from './host.ts';
import { measure } from './measure.ts';
import { formatRows, median, type Row } from './sample.ts';

/** As host-local leaves them: `10.64.x.y`, held by ids as long as containerd's. */
function fill(folder: string, count: number): void {
  mkdirSync(folder, { recursive: true });
  let last = '';
  for (let i = 2; i < count + 2; i++) {
    last = `10.64.${i >> 8}.${i & 255}`;
    writeFileSync(join(folder, last), `${i.toString(16).padStart(64, 'c0ffee')}\r\neth0`, { mode: 0o600 });
  }
  if (last) writeFileSync(join(folder, 'last_reserved_ip.0'), last);
}

/** One at a time, the contenders in turn. */
export function benchReservations(host: BenchHost, counts: readonly number[], rounds: number): string {
  const rows: Row[] = [];
  for (const count of counts) {
    const sides = (['weft-ipam', 'host-local'] as const).map((type) => {
      const dataDir = join(host.folder, `${type}-${count}`);
      fill(join(dataDir, 'net'), count);
      return { type, dataDir, ADD: [] as number[], DEL: [] as number[] };
    });
    for (let round = 0; round <= rounds; round++) {
      for (const { type, dataDir, ...walls } of sides) {
        for (const verb of ['ADD', 'DEL'] as const) {
          const { wallMs } = measure(host.callIpam(type, dataDir, verb, `bench-${round}`));
          // The first one makes the index.
          if (round > 0) walls[verb].push(wallMs);
        }
      }
    }
    const [weft, reference] = sides as [(typeof sides)[0], (typeof sides)[0]];
    for (const verb of ['ADD', 'DEL'] as const) {
      const what = `${verb} beside ${count}, median`;
      rows.push({ what, unit: 'ms', weft: median(weft[verb]), reference: median(reference[verb]) });
    }
  }
  return formatRows(`IPAM alone (${rounds} each)`, rows);
}
