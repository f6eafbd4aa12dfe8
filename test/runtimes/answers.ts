/** Asking containers of the tests' image who they are, and by which address they see their client. */

import { type Finished, findProgram } from '../lab/commands.ts';
import { waitFor } from '../lab/wait.ts';
import { answerPort } from './image.ts';

export interface Answer {
  /** The client's address as the container sees it. */
  readonly source: string;
  /** The container's host name. */
  readonly name: string;
}

type Execute = (argv: readonly string[]) => Finished;

const urlOf = (address: string, port: number): string =>
  `http://${address.includes(':') ? `[${address}]` : address}:${port}/cgi-bin/who`;

/** The command that asks in a container of the image. The static busybox's `wget -T` crashes. */
export const asking = (address: string, port = answerPort): string[] => [
  ...['timeout', '20', 'wget', '-qO-'],
  urlOf(address, port),
];

/** An IPv4 client has an IPv6 address for a server that listens for both. */
export function parseAnswer(text: string): Answer {
  const [, source, name] = /^\[?(?:::ffff:)?([0-9a-f.:]+?)\]? (\S+)$/.exec(text.trim()) ?? [];
  if (!source || !name) throw new Error(`A container said "${text}"`);
  return { source, name };
}

/** Asks once. @param execute runs a program somewhere, where the machine's own busybox is */
export function askOnce(execute: Execute, address: string, port = answerPort): Answer {
  const { status, stdout, stderr } = execute([
    findProgram('busybox'),
    'sh',
    '-c',
    `timeout 5 wget -qO- '${urlOf(address, port)}'`,
  ]);
  if (status !== 0) throw new Error(`No answer from ${address}: ${stderr || stdout}`);
  return parseAnswer(stdout);
}

/** Asks until an answer comes: a container may still be starting. */
export const ask = (execute: Execute, address: string, port?: number): Promise<Answer> =>
  waitFor(`${address} to answer`, () => askOnce(execute, address, port), { deadlineMs: 30_000, intervalMs: 100 });
