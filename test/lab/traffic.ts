/** Traffic of all kinds between containers and to the outside, and what became of it: see traffic.ts. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Service } from './commands.ts';
import type { Pod } from './host.ts';
import { type PingCount, type PingStream, startPing } from './packets.ts';
import type { Scratch } from './scratch.ts';
import type { CollectReport, DatagramReport, StreamReport } from './traffic.main.ts';
import { waitFor } from './wait.ts';

const script = fileURLToPath(new URL('traffic.main.ts', import.meta.url));
const [streamPort, datagramPort] = [7008, 7009];

let programs = 0;

/** One of the script's verbs, running. */
class Program {
  readonly #service: Service;

  private constructor(service: Service) {
    this.#service = service;
  }

  static async start(scratch: Scratch, namespace: string, ...words: string[]): Promise<Program> {
    const logFile = join(scratch.folder, `traffic-${programs++}.log`);
    const program = new Program(scratch.start([process.execPath, script, ...words], { namespace, logFile }));
    await waitFor(`"${words.join(' ')}" to be ready`, () => {
      if (!program.#service.alive) throw new Error(program.#log);
      return program.#log.includes('ready');
    });
    return program;
  }

  get #log(): string {
    return readFileSync(this.#service.logFile, 'utf8');
  }

  async stop<Report>(): Promise<Report> {
    await this.#service.stop('SIGINT');
    try {
      return JSON.parse(this.#log.trimEnd().split('\n').at(-1)!) as Report;
    } catch (error) {
      throw new Error(`The traffic ended with: ${this.#log}`, { cause: error });
    }
  }
}

export interface Outside {
  readonly namespace: string;
  readonly addresses: readonly string[];
}

export interface TrafficReport {
  readonly pings: PingCount;
  /** Bytes that arrived, and faults of connections. */
  readonly streams: { readonly bytes: number; readonly faults: readonly string[] };
  /** Datagrams to the outside, and how many of them came from each address. */
  readonly datagrams: { readonly sent: number; readonly sources: Readonly<Record<string, number>> };
}

/** Pings 10 ms apart both ways, a connection from each side, and a new connection to the outside each 5 ms. */
export class Traffic {
  readonly #pings: PingStream[] = [];
  #servers: Program[] = [];
  #streams: Program[] = [];
  #senders: Program[] = [];
  #collector: Program | undefined;

  static async start(scratch: Scratch, here: Pod, there: Pod, outside: Outside): Promise<Traffic> {
    const traffic = new Traffic();
    const verb = (namespace: string, ...words: string[]): Promise<Program> =>
      Program.start(scratch, namespace, ...words);
    traffic.#servers = await Promise.all(
      [here, there].map(({ namespace }) => verb(namespace, 'serve', String(streamPort))),
    );
    traffic.#collector = await verb(outside.namespace, 'collect', String(datagramPort));
    traffic.#streams = await Promise.all([
      ...there.addresses.map((address) => verb(here.namespace, 'stream', address, String(streamPort))),
      ...here.addresses.map((address) => verb(there.namespace, 'stream', address, String(streamPort))),
    ]);
    traffic.#senders = await Promise.all(
      outside.addresses.map((address) => verb(here.namespace, 'datagrams', address, String(datagramPort), '5')),
    );
    for (const [from, to] of [
      [here, there],
      [there, here],
    ] as const) {
      for (const address of to.addresses) traffic.#pings.push(startPing(scratch, from.namespace, address, 10));
    }
    return traffic;
  }

  async stop(): Promise<TrafficReport> {
    const pings = await Promise.all(this.#pings.map((stream) => stream.stop()));
    const sent = await Promise.all(this.#senders.map((program) => program.stop<DatagramReport>()));
    const clients = await Promise.all(this.#streams.map((program) => program.stop<StreamReport>()));
    const servers = (await Promise.all(this.#servers.map((program) => program.stop<StreamReport[]>()))).flat();
    const { sources } = await this.#collector!.stop<CollectReport>();
    const faults = [...clients, ...servers].flatMap(({ error, wrongAt }) => [
      ...(error === undefined ? [] : [error]),
      ...(wrongAt === undefined ? [] : [`byte ${wrongAt} was wrong`]),
    ]);
    const total = (reports: readonly StreamReport[], key: 'sent' | 'received'): number =>
      reports.reduce((sum, report) => sum + report[key], 0);
    for (const [from, to] of [
      [clients, servers],
      [servers, clients],
    ] as const) {
      const missing = total(from, 'sent') - total(to, 'received');
      if (missing !== 0) faults.push(`${missing} bytes did not arrive`);
    }
    const sum = (counts: readonly number[]): number => counts.reduce((a, b) => a + b, 0);
    return {
      pings: { sent: sum(pings.map((ping) => ping.sent)), received: sum(pings.map((ping) => ping.received)) },
      streams: { bytes: total(clients, 'received') + total(servers, 'received'), faults },
      datagrams: { sent: sum(sent.map((report) => report.sent)), sources },
    };
  }
}
