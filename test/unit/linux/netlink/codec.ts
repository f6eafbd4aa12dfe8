/** Shared parts of the codecs' tests: fixtures, requests as bytes, and checks that hold for every codec. */

import * as assert from 'uvu/assert';
import { DecodeError } from '../../../../linux/errors.ts';
import type { NetlinkRequest } from '../../../../linux/netlink/connection.ts';
import { decodeLink, type Link } from '../../../../linux/netlink/link.ts';
import { NetlinkReader, NetlinkWriter } from '../../../../linux/netlink/wire.ts';
import { type Address, parseAddress } from '../../../../net/address.ts';
import { parseMac } from '../../../../net/mac.ts';
import { parsePrefix } from '../../../../net/prefix.ts';
import { readDatagrams, readMessages } from '../../../support/netlink-fixture.ts';
import { bytesOf } from '../../../support/netlink-messages.ts';
import { randomStream } from '../../../support/random.ts';

export const address = (text: string): Address => parseAddress(text)!;
export const prefix = (text: string) => parsePrefix(text)!;
export const mac = (text: string) => parseMac(text)!;

export const bodyOf = (request: Pick<NetlinkRequest, 'encodeBody'>): Uint8Array => {
  const writer = new NetlinkWriter();
  request.encodeBody(writer);
  return bytesOf(writer);
};
/** The last message of the fixture: tools may ask before they act. */
export const requestOf = (name: string) => readMessages(name).at(-1)!;

export const linkOf = (name: string): Link => decodeLink(readMessages(name)[0]!.body);

export function roundTrip<T>(
  value: T,
  encode: (writer: NetlinkWriter, value: T) => void,
  decode: (body: NetlinkReader) => T | undefined,
): T | undefined {
  const writer = new NetlinkWriter();
  encode(writer, value);
  return decode(NetlinkReader.of('round trip', bytesOf(writer)));
}

/** Attributes as text, sorted: tools write them in another order. Those in `nests` are of attributes themselves. */
export function tree(r: NetlinkReader, nests: Readonly<Record<string, number>>, path = ''): string[] {
  const lines: string[] = [];
  while (r.next()) {
    const here = `${path}/${r.type}`;
    const skip = nests[here];
    if (skip === undefined) lines.push(`${here} ${[...r.bytes()].map((byte) => byte.toString(16)).join(' ')}`);
    else lines.push(...tree(r.nested(skip), nests, here));
  }
  return lines.sort();
}

export const linkKindNests: Readonly<Record<string, number>> = { '/18': 0, '/18/2': 0 };

/** Each request has the type, the flags and the contents of the fixture's, which iproute2 sent. */
export function saysWhatIproute2Says(
  cases: readonly (readonly [fixture: string, NetlinkRequest, decode: (body: NetlinkReader) => unknown])[],
): void {
  for (const [name, request, decode] of cases) {
    const theirs = requestOf(name);
    assert.is(request.type, theirs.type, name);
    assert.is(request.flags, theirs.flags & ~5, name);
    const ours = NetlinkReader.of(name, bodyOf(request));
    assert.equal(decode(ours), decode(theirs.body), name);
  }
}

/** The fixture's bodies, cut at every length, are decoded or refused, and most of them are refused. */
export function refusesCutBodies(name: string, decode: (body: NetlinkReader) => unknown): void {
  for (const { body } of readMessages(name)) {
    const bytes = body.bytes();
    let errors = 0;
    for (let length = 0; length < bytes.length; length++) {
      try {
        decode(NetlinkReader.of(name, bytes.slice(0, length)));
      } catch (error) {
        assert.instance(error, DecodeError, `${name} at ${length}: ${error}`);
        errors++;
      }
    }
    // A cut between two attributes cannot be noticed.
    assert.ok(errors > bytes.length / 2, `${name}: ${errors} of ${bytes.length}`);
  }
}

/** Captured datagrams of every kind with some bytes replaced are decoded or refused by a DecodeError. */
export function takesRandomBytes(decode: (datagram: Uint8Array) => void): void {
  const random = randomStream(3);
  for (const name of ['link-veth', 'addresses', 'routes-ipv4', 'fdb', 'events']) {
    const datagram = readDatagrams(name)[0]!;
    for (let i = 0; i < 300; i++) {
      const bytes = datagram.slice();
      for (let n = 0; n < 4; n++) bytes[16 + Math.floor(random() * (bytes.length - 16))] = Math.floor(random() * 256);
      try {
        decode(bytes);
      } catch (error) {
        assert.instance(error, DecodeError, String(error));
      }
    }
  }
}

/** Random values of what codecs carry. */
export interface Values {
  readonly random: () => number;
  readonly integer: (below: number) => number;
  readonly bytes: (length: number) => Uint8Array;
  readonly address: (family: 4 | 6) => Address;
  /** The key with a value, or nothing. */
  readonly maybe: <K extends string, V>(key: K, value: () => V) => { [P in K]?: V };
}

/** Calls the body 300 times, with a random family. */
export function randomValues(body: (values: Values, family: 4 | 6) => void): void {
  const random = randomStream(11);
  const integer = (below: number): number => Math.floor(random() * below);
  const bytes = (length: number): Uint8Array => Uint8Array.from({ length }, () => integer(256));
  const anyAddress = (family: 4 | 6): Address => ({ family, bytes: bytes(family === 4 ? 4 : 16) });
  const maybe = <K extends string, V>(key: K, value: () => V): { [P in K]?: V } =>
    random() < 0.5 ? ({ [key]: value() } as { [P in K]: V }) : {};
  for (let i = 0; i < 300; i++) {
    body({ random, integer, bytes, address: anyAddress, maybe }, random() < 0.5 ? 4 : 6);
  }
}
