/** Which process holds a socket, by /proc (proc(5)). Processes of other process id namespaces may be invisible. */

import { readText } from '../../linux/files.ts';
import type { Sys } from '../../linux/sys.ts';

/** The process that holds the socket; undefined if it is not visible from here. */
export function processOf(sys: Sys, inode: number): number | undefined {
  const processes = sys.getdents('/proc');
  if (typeof processes === 'number') return undefined;
  for (const pid of processes) {
    const descriptors = /^\d+$/.test(pid) ? sys.getdents(`/proc/${pid}/fd`) : 0;
    if (typeof descriptors === 'number') continue;
    if (descriptors.some((fd) => sys.readlink(`/proc/${pid}/fd/${fd}`) === `socket:[${inode}]`)) return Number(pid);
  }
  return undefined;
}

/** The inodes of the UDP sockets on a port in /proc/net/udp or udp6. A socket of the kernel has the inode 0. */
export function udpInodes(table: string, port: number): number[] {
  const local = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  return table.split('\n').flatMap((line) => {
    // sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode
    const fields = line.trim().split(/\s+/);
    return fields[1]?.endsWith(local) ? [Number(fields[9])] : [];
  });
}

/** The process with a UDP socket on the port, in words: `process 77 ("dnsmasq")`; undefined if none is visible. */
export function udpPortHolder(sys: Sys, port: number): string | undefined {
  for (const table of ['udp', 'udp6']) {
    for (const inode of udpInodes(readText(sys, `/proc/thread-self/net/${table}`) ?? '', port)) {
      const pid = inode > 0 ? processOf(sys, inode) : undefined;
      if (pid === undefined) continue;
      const name = readText(sys, `/proc/${pid}/comm`)?.trim();
      return `process ${pid}${name ? ` ("${name}")` : ''}`;
    }
  }
  return undefined;
}
