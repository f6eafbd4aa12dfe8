/** Packets of any IP protocol, made by hand: also where the kernel has no device that would send them. */

import { SyscallError } from '../../linux/errors.ts';
import { sys } from '../../linux/sys-bun.ts';
import { type Address, parseAddress } from '../../net/address.ts';
import { insideNamespace } from './namespaces.ts';

const [AF_INET, AF_INET6, SOCK_RAW] = [2, 10, 3];

/** struct sockaddr_in, struct sockaddr_in6 */
function sockaddr({ family, bytes }: Address, scope: number): ArrayBuffer {
  const buffer = new Uint8Array(family === 4 ? 16 : 28);
  buffer[0] = family === 4 ? AF_INET : AF_INET6;
  buffer.set(bytes, family === 4 ? 4 : 8);
  if (family === 6) new DataView(buffer.buffer).setUint32(24, scope, true);
  return buffer.buffer;
}

const checked = (result: number, action: string): number => {
  if (result < 0) throw new SyscallError(action, -result);
  return result;
};

/**
 * Sends one packet from an address of the namespace.
 * @param payload what IP carries, in hexadecimal
 * @param scope for link-local addresses the index of their interface
 */
export function sendRaw(
  namespace: string,
  from: string,
  to: string,
  protocol: number,
  payload: string,
  scope = 0,
): void {
  const [source, destination] = [parseAddress(from)!, parseAddress(to)!];
  const bytes = new Uint8Array(Buffer.from(payload, 'hex'));
  insideNamespace(namespace, () => {
    const domain = source.family === 4 ? AF_INET : AF_INET6;
    const fd = checked(sys.socket(domain, SOCK_RAW, protocol), 'open a raw socket');
    try {
      checked(sys.bind(fd, sockaddr(source, scope)), `bind a raw socket to ${from}`);
      checked(sys.sendto(fd, bytes.buffer, 0, bytes.length, 0, sockaddr(destination, scope)), `send a packet to ${to}`);
    } finally {
      sys.close(fd);
    }
  });
}
