/**
 * A cluster under random faults and constant traffic: four hosts, three containers on each, all of which ask all others
 * ten times a second. What may be lost, and when, follows from the faults: where the hosts' network itself was cut, and
 * for a moment where a tunnel device was taken away. Nothing else. The faults are drawn from a seed.
 */

import { startCluster } from '../lab/cluster.ts';
import type { MeshReport } from '../lab/mesh.main.ts';
import { Mesh } from '../lab/mesh.ts';
import { Breaker, formatFault, leadMs, planFaults, type Window } from './faults.ts';

export const hostCount = 4;
const podsPerHost = 3;
const askEveryMs = 100;

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export interface SoakReport {
  readonly sent: number;
  readonly received: number;
  /** Questions without an answer that no fault explains: who asked whom, when, and the faults around that time. */
  readonly unexplained: readonly string[];
  readonly wrong: readonly string[];
  /** From the last fault's end until everybody heard of everybody. */
  readonly recoveryMs: number;
  /** For how long after a cut the last question was lost that nothing else explains. */
  readonly longestTailMs: number;
  /** For how long the ways of a host were gone after its device was deleted, each time. */
  readonly heals: readonly { readonly fault: string; readonly ms: number }[];
  /** Subnets at the beginning and at the end. */
  readonly subnets: { readonly before: readonly string[]; readonly after: readonly string[] };
}

const hostOf = (pod: string): number => Number(/^host(\d+)-/.exec(pod)![1]) - 1;

function touches({ hosts }: Window, a: number, b: number): boolean {
  return hosts.length === 1 ? hosts[0] === a || hosts[0] === b : hosts.includes(a) && hosts.includes(b);
}

export interface SoakOptions {
  readonly seed: number;
  readonly durationMs: number;
  readonly log: (line: string) => void;
}

/** Runs it. The cluster is there before and gone after. @throws where the cluster is not well afterwards */
export async function soak({ seed, durationMs, log }: SoakOptions): Promise<SoakReport> {
  const faults = planFaults(seed, durationMs, hostCount);
  log(`${faults.length} faults in ${durationMs / 1000} s, from seed ${seed}:`);
  for (const fault of faults) log(`  ${formatFault(fault)}`);
  const cluster = await startCluster('soak', { hosts: hostCount, arguments: ['--ip-masq'] });
  try {
    for (const host of cluster.hosts) host.attachPods(podsPerHost);
    const breaker = new Breaker(cluster);
    await breaker.prepare();
    const before = cluster.hosts.map(({ subnet }) => subnet);
    const mesh = new Mesh();
    await mesh.start(cluster, askEveryMs);

    const startMs = Date.now();
    const under: Promise<void>[] = [];
    let failure: unknown;
    for (const fault of faults) {
      await sleep(Math.max(0, startMs + fault.atMs - Date.now()));
      if (failure !== undefined) break;
      under.push(
        breaker.apply(fault).catch((error: unknown) => {
          failure ??= error;
        }),
      );
    }
    await Promise.all(under);
    if (failure !== undefined) throw failure;
    const recoveryMs = await mesh.recover();
    for (const host of cluster.hosts) await host.reaches(cluster.hosts);
    const reports = await mesh.stop();
    const after = cluster.hosts.map(({ subnet }) => subnet);
    return { ...judge(reports, breaker, startMs), recoveryMs, subnets: { before, after } };
  } catch (error) {
    const logs = cluster.hosts.map((host) => `${host.name}:\n${host.log.slice(-3000)}`).join('\n');
    throw new Error(`Seed ${seed}: ${error instanceof Error ? error.message : error}\n${logs}`);
  } finally {
    cluster.remove();
  }
}

function judge(reports: readonly MeshReport[], breaker: Breaker, startMs: number) {
  const unexplained: string[] = [];
  const heals = new Map<Window, number>();
  let longestTailMs = 0;
  for (const { id, lost } of reports) {
    for (const [other, times] of Object.entries(lost)) {
      const [a, b] = [hostOf(id), hostOf(other)];
      for (const at of times) {
        // Not all were there at once.
        if (at < startMs) continue;
        const windows = breaker.windows.filter(
          (window) => a !== b && touches(window, a, b) && window.fromMs <= at && at <= window.toMs,
        );
        // A loss that a single fault explains shows how long that fault lasted.
        if (windows.length === 1) {
          const window = windows[0]!;
          if (!window.because.includes('device')) longestTailMs = Math.max(longestTailMs, at - window.endMs);
          heals.set(window, Math.max(heals.get(window) ?? 0, at - window.fromMs - leadMs + askEveryMs));
        }
        if (windows.length > 0) continue;
        const near = breaker.done
          .filter(({ fromMs, toMs }) => fromMs - 500 <= at && at <= toMs + 3000)
          .map(({ fault }) => formatFault(fault).trim().replace(/\s+/g, ' '));
        unexplained.push(
          `${((at - startMs) / 1000).toFixed(2)} s: ${id} → ${other}; near: ${near.join(', ') || 'nothing'}`,
        );
      }
    }
  }
  const total = (key: 'sent' | 'received'): number => reports.reduce((sum, report) => sum + report[key], 0);
  return {
    sent: total('sent'),
    received: total('received'),
    unexplained: unexplained.sort((x, y) => Number.parseFloat(x) - Number.parseFloat(y)),
    wrong: reports.flatMap((report) => report.wrong),
    longestTailMs,
    heals: [...heals]
      .filter(([{ because }]) => because.includes('device deleted'))
      .map(([{ because }, ms]) => ({ fault: because, ms })),
  };
}
