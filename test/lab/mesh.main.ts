/**
 * Everybody asks everybody, to be run in each container's network namespace: `mesh.ts ID PORT INTERVAL_MS FILE`, where
 * FILE holds the address of each ID as JSON. Each question and each answer names who asks, who is asked and a number, so
 * that what reaches somebody else is noticed.
 *
 * Prints a line of JSON each half second (`MeshLine`), and at SIGINT a last one (`MeshReport`).
 */

import { createSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';

export interface MeshLine {
  /** In milliseconds since the epoch, as all times here. */
  readonly at: number;
  /** Those who have not answered for a second, if ever. */
  readonly silent: readonly string[];
  readonly wrong: number;
}

export interface MeshReport {
  readonly id: string;
  readonly sent: number;
  readonly received: number;
  /** When each question without an answer was asked, by who was asked. */
  readonly lost: Readonly<Record<string, readonly number[]>>;
  /** Messages that were meant for another, or came from another than they say. */
  readonly wrong: readonly string[];
}

interface Peer {
  readonly id: string;
  readonly address: string;
  readonly askedAt: number[];
  readonly answered: Set<number>;
  lastAnswerAt: number;
}

const [, , self, portText, intervalText, file] = process.argv as string[] as [
  string,
  string,
  string,
  string,
  string,
  string,
];
const port = Number(portText);
const addresses = JSON.parse(readFileSync(file, 'utf8')) as Record<string, string>;
const peers = new Map<string, Peer>(
  Object.entries(addresses)
    .filter(([id]) => id !== self)
    .map(([id, address]) => [id, { id, address, askedAt: [], answered: new Set<number>(), lastAnswerAt: 0 }]),
);
const wrong: string[] = [];
/** Answers that are under way when the last question has been asked. */
const drainMs = 1000;

const socket = createSocket(addresses[self]!.includes(':') ? 'udp6' : 'udp4');
// A message that cannot be sent gets no answer, and counts as lost.
const send = (text: string, address: string): void => socket.send(text, port, address, () => undefined);
socket.on('error', () => undefined);

socket.on('message', (message, from) => {
  const text = message.toString();
  const [kind, asker, asked, number] = text.split(' ');
  const isQuestion = kind === 'q';
  const [other, meant] = isQuestion ? [asker, asked] : [asked, asker];
  const peer = peers.get(other ?? '');
  if (meant !== self || !peer || peer.address !== from.address) {
    wrong.push(`${self} got "${text}" from ${from.address}`);
    return;
  }
  if (isQuestion) {
    send(`a ${asker} ${self} ${number}`, peer.address);
  } else {
    peer.answered.add(Number(number));
    peer.lastAnswerAt = Date.now();
  }
});

socket.bind(port, addresses[self]!, () => {
  const asking = setInterval(() => {
    for (const peer of peers.values()) {
      send(`q ${self} ${peer.id} ${peer.askedAt.length}`, peer.address);
      peer.askedAt.push(Date.now());
    }
  }, Number(intervalText));
  const telling = setInterval(() => {
    const at = Date.now();
    const silent = [...peers.values()].filter((peer) => at - peer.lastAnswerAt > 1000).map(({ id }) => id);
    console.log(JSON.stringify({ at, silent, wrong: wrong.length } satisfies MeshLine));
  }, 500);
  process.once('SIGINT', () => {
    clearInterval(asking);
    clearInterval(telling);
    setTimeout(() => {
      const all = [...peers.values()];
      const report: MeshReport = {
        id: self,
        sent: all.reduce((sum, { askedAt }) => sum + askedAt.length, 0),
        received: all.reduce((sum, { answered }) => sum + answered.size, 0),
        lost: Object.fromEntries(
          all.map(({ id, askedAt, answered }) => [id, askedAt.filter((_, number) => !answered.has(number))]),
        ),
        wrong,
      };
      process.stdout.write(`${JSON.stringify(report)}\n`, () => process.exit(0));
    }, drainMs);
  });
});
