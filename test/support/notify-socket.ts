/** A real unix datagram socket for NOTIFY_SOCKET, and the messages that systemd would get. */

import { errno } from '../../linux/errors.ts';
import type { Sys } from '../../linux/sys.ts';

/** include/linux/socket.h, include/linux/net.h */
const unix = { AF_UNIX: 1, SOCK_DGRAM: 2, MSG_DONTWAIT: 0x40 } as const;

export class NotifySocket {
  /** For NOTIFY_SOCKET. */
  readonly name: string;
  readonly #sys: Sys;
  readonly #fd: number;
  readonly #heard: string[] = [];

  /** @param name a path, or an abstract name after `@` */
  constructor(sys: Sys, name: string) {
    this.#sys = sys;
    this.name = name;
    this.#fd = sys.socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0);
    const bytes = new Uint8Array(sys.encodeUtf8(name));
    const address = new Uint8Array([unix.AF_UNIX, 0, ...bytes]);
    if (name.startsWith('@')) address[2] = 0;
    const bound = sys.bind(this.#fd, address.buffer);
    if (bound < 0) throw new Error(`Cannot bind "${name}": ${bound}`);
  }

  /** All messages so far, the oldest first. */
  get messages(): readonly string[] {
    const buffer = new ArrayBuffer(8192);
    for (;;) {
      const got = this.#sys.recv(this.#fd, buffer, 0, buffer.byteLength, unix.MSG_DONTWAIT);
      if (got === -errno.EAGAIN) return this.#heard;
      if (got < 0) throw new Error(`Cannot receive: ${got}`);
      this.#heard.push(this.#sys.decodeUtf8(buffer, 0, got));
    }
  }

  /** Those with such a line: `WATCHDOG=1`. */
  count(line: string): number {
    return this.messages.filter((message) => message.split('\n').includes(line)).length;
  }

  close(): void {
    this.#sys.close(this.#fd);
  }
}
