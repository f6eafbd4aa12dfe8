/** Real packets between network namespaces. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { execute, executeAsync, type Service } from './commands.ts';
import type { Scratch } from './scratch.ts';
import { waitFor } from './wait.ts';

export interface PingOptions {
  readonly count?: number;
  readonly intervalMs?: number;
  /** Payload: a packet is 28 bytes longer by IPv4, 48 by IPv6. */
  readonly payloadBytes?: number;
  /** Packets must not be cut to fit. */
  readonly whole?: boolean;
  readonly timeoutMs?: number;
}

export interface PingCount {
  readonly sent: number;
  readonly received: number;
}

function pingArguments(address: string, options: PingOptions): string[] {
  const { intervalMs = 100, payloadBytes, whole, timeoutMs = 1000, count } = options;
  return [
    ...['ping', '-n', '-i', String(intervalMs / 1000), '-W', String(timeoutMs / 1000)],
    ...(count === undefined ? ['-q'] : ['-q', '-c', String(count)]),
    ...(payloadBytes === undefined ? [] : ['-s', String(payloadBytes)]),
    ...(whole ? ['-M', 'do'] : []),
    address,
  ];
}

function parsePing(output: string): PingCount {
  const match = /(\d+) packets transmitted, (\d+) received/.exec(output);
  if (!match) throw new Error(`ping said: ${output}`);
  return { sent: Number(match[1]), received: Number(match[2]) };
}

export function ping(namespace: string, address: string, options: PingOptions = {}): PingCount {
  const { stdout, stderr } = execute(pingArguments(address, { count: 1, ...options }), { namespace });
  return parsePing(`${stdout}${stderr}`);
}

export async function pingAsync(namespace: string, address: string, options: PingOptions = {}): Promise<PingCount> {
  const { stdout, stderr } = await executeAsync(pingArguments(address, { count: 1, ...options }), { namespace });
  return parsePing(`${stdout}${stderr}`);
}

export const reaches = (namespace: string, address: string): boolean => ping(namespace, address).received === 1;

/** Pings that go on until they are stopped. */
export class PingStream {
  readonly #service: Service;

  constructor(service: Service) {
    this.#service = service;
  }

  /** Whether it has begun: one that is stopped before says nothing at all. */
  get begun(): boolean {
    return readFileSync(this.#service.logFile, 'utf8').startsWith('PING ');
  }

  async stop(): Promise<PingCount> {
    await waitFor('pings to begin', () => this.begun || !this.#service.alive);
    await this.#service.stop('SIGINT');
    return parsePing(readFileSync(this.#service.logFile, 'utf8'));
  }
}

let streams = 0;

export function startPing(scratch: Scratch, namespace: string, address: string, intervalMs: number): PingStream {
  const logFile = join(scratch.folder, `ping-${streams++}.log`);
  return new PingStream(scratch.start(pingArguments(address, { intervalMs }), { namespace, logFile }));
}

const echoScript = fileURLToPath(new URL('echo.main.ts', import.meta.url));
const echoPort = 7007;

/** An echo by TCP and UDP in the namespace, until `scratch` is removed. */
export async function startEcho(scratch: Scratch, namespace: string): Promise<void> {
  const logFile = join(scratch.folder, `echo-${namespace}.log`);
  const argv = [process.execPath, echoScript, 'serve', String(echoPort)];
  const service = scratch.start(argv, { namespace, logFile });
  await waitFor('the echo', () => {
    const log = readFileSync(logFile, 'utf8');
    if (!service.alive) throw new Error(log);
    return log.includes('ready');
  });
}

/** The answer of the echo at the address. @throws if there is none */
export async function askEcho(
  namespace: string,
  protocol: 'tcp' | 'udp',
  address: string,
  text: string,
  port = echoPort,
): Promise<string> {
  const argv = [process.execPath, echoScript, 'ask', protocol, address, String(port), text];
  const { status, stdout, stderr } = await executeAsync(argv, { namespace });
  if (status !== 0) throw new Error(`echo: ${stderr.trim()}`);
  return stdout.trimEnd();
}
