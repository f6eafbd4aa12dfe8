/**
 * Traffic that is watched, to be run inside of network namespaces until SIGINT, when it prints what it saw as one line
 * of JSON:
 *
 * - `serve PORT`: takes TCP connections; sends and checks on each what `stream` does.
 * - `stream ADDRESS PORT`: a TCP connection that both sides send on, all the time, a pattern that both know; ends it in order.
 * - `collect PORT`: takes numbered datagrams, and notes from which address each came.
 * - `datagrams ADDRESS PORT INTERVAL_MS`: sends numbered datagrams, each from a socket of its own: a new connection to
 *   connection tracking.
 */

import { createSocket } from 'node:dgram';
import { connect, createServer, type Socket } from 'node:net';

export interface StreamReport {
  sent: number;
  received: number;
  /** The place of the first wrong byte. */
  wrongAt?: number;
  error?: string;
}

export interface DatagramReport {
  sent: number;
}

export interface CollectReport {
  /** How many different datagrams came from each address. */
  sources: Record<string, number>;
}

const blockBytes = 4096;
const pauseMs = 10;

/** The byte of a stream at a place: the pattern does not repeat within a megabyte. */
const byteAt = (place: number): number => (place ^ (place >>> 7) ^ Math.imul(place >>> 12, 31)) & 0xff;

function block(from: number): Buffer {
  const buffer = Buffer.alloc(blockBytes);
  for (let i = 0; i < blockBytes; i++) buffer[i] = byteAt(from + i);
  return buffer;
}

/** Sends on the socket and checks what comes. */
class Stream {
  readonly report: StreamReport = { sent: 0, received: 0 };
  readonly #socket: Socket;
  readonly #timer: ReturnType<typeof setInterval>;
  readonly ended: Promise<void>;

  constructor(socket: Socket) {
    this.#socket = socket;
    this.ended = new Promise((resolve) => socket.on('close', () => resolve()));
    socket.on('data', (data: Buffer) => {
      for (const [i, byte] of data.entries()) {
        if (byte !== byteAt(this.report.received + i)) this.report.wrongAt ??= this.report.received + i;
      }
      this.report.received += data.length;
    });
    socket.on('error', (error) => {
      this.report.error ??= error.message;
    });
    socket.on('end', () => this.end());
    this.#timer = setInterval(() => {
      if (socket.writableNeedDrain || socket.writableEnded) return;
      socket.write(block(this.report.sent));
      this.report.sent += blockBytes;
    }, pauseMs);
    socket.on('close', () => clearInterval(this.#timer));
  }

  end(): void {
    clearInterval(this.#timer);
    this.#socket.end();
  }
}

const print = (report: object): never => {
  console.log(JSON.stringify(report));
  process.exit(0);
};

const onStop = (work: () => void | Promise<void>): void => void process.once('SIGINT', () => void work());

function serve(port: number): void {
  const streams: Stream[] = [];
  createServer({ allowHalfOpen: true }, (socket) => streams.push(new Stream(socket))).listen(port, '::', () => {
    console.log('ready');
  });
  onStop(async () => {
    await Promise.all(streams.map(({ ended }) => ended));
    print(streams.map(({ report }) => report));
  });
}

function stream(address: string, port: number): void {
  const socket = connect({ host: address, port, allowHalfOpen: true }, () => console.log('ready'));
  const made = new Stream(socket);
  onStop(() => made.end());
  void made.ended.then(() => print(made.report));
}

function collect(port: number): void {
  const numbers = new Map<string, Set<string>>();
  const socket = createSocket({ type: 'udp6', ipv6Only: false });
  socket.on('message', (message, from) => {
    const source = from.address.replace(/^::ffff:/, '');
    if (!numbers.has(source)) numbers.set(source, new Set());
    numbers.get(source)!.add(message.toString());
  });
  socket.bind(port, '::', () => console.log('ready'));
  onStop(() => print({ sources: Object.fromEntries([...numbers].map(([source, set]) => [source, set.size])) }));
}

function datagrams(address: string, port: number, intervalMs: number): void {
  const report: DatagramReport = { sent: 0 };
  const type = address.includes(':') ? 'udp6' : 'udp4';
  const timer = setInterval(() => {
    const socket = createSocket(type);
    socket.send(String(report.sent++), port, address, () => socket.close());
  }, intervalMs);
  console.log('ready');
  onStop(() => {
    clearInterval(timer);
    // The last datagrams are still on their way.
    setTimeout(() => print(report), 100);
  });
}

const [, , verb, ...words] = process.argv;
if (verb === 'serve') serve(Number(words[0]));
else if (verb === 'stream') stream(words[0]!, Number(words[1]));
else if (verb === 'collect') collect(Number(words[0]));
else if (verb === 'datagrams') datagrams(words[0]!, Number(words[1]), Number(words[2]));
