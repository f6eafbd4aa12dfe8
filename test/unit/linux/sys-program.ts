/**
 * Calls every function of `Sys`, well and badly, and tells what came back. What differs from run to run (descriptors, times,
 * randomness) is told as whether it makes sense. Every adapter has to tell the same.
 */

import { CLONE_NEWNET, clock, type FileStatus, flock, open, type Sys } from '../../../linux/sys.ts';

export function exercise(sys: Sys, folder: string): Record<string, unknown> {
  const told: Record<string, unknown> = {};
  const text = (buffer: ArrayBuffer) => sys.decodeUtf8(buffer, 0, buffer.byteLength);
  const opened = (fd: number) => (fd >= 0 ? 'open' : fd);
  const thrown = (run: () => unknown) => {
    try {
      return run();
    } catch (error) {
      return `throws ${(error as Error).name}`;
    }
  };
  const buffer = new ArrayBuffer(16);
  const empty = new ArrayBuffer(0);

  const path = `${folder}/a`;
  const fd = sys.open(path, open.O_RDWR | open.O_CREAT | open.O_EXCL, 0o640);
  const hello = sys.encodeUtf8('héllo');
  told['open'] = [
    opened(fd),
    sys.open(path, open.O_CREAT | open.O_EXCL, 0),
    sys.open(`${path}/x`, open.O_RDONLY, 0),
    sys.open(`${folder}/none`, open.O_RDONLY, 0),
    sys.open('a\0b', open.O_RDONLY, 0),
    sys.open(folder, open.O_WRONLY, 0),
    sys.open('', open.O_RDONLY, 0),
  ];
  told['write'] = [sys.write(fd, hello, 0, hello.byteLength), sys.write(fd, hello, 1, 0), sys.write(-1, hello, 0, 1)];
  told['out of range'] = [
    thrown(() => sys.write(fd, hello, 4, 4)),
    thrown(() => sys.read(fd, buffer, 17, 0)),
    thrown(() => sys.decodeUtf8(buffer, 0, 17)),
    thrown(() => sys.getrandom(buffer, 8, 9)),
  ];
  told['files'] = [sys.fsync(fd), sys.ftruncate(fd, 4), sys.fsync(-1), sys.ftruncate(9999, 0), sys.ftruncate(fd, -1)];
  const status = sys.fstat(fd);
  told['fstat'] = typeof status === 'object' && [
    status.mode,
    status.size,
    Math.abs(status.mtimeMs - sys.clock_gettime(0)) < 1e4,
  ];
  told['stat'] = [JSON.stringify(sys.stat(path)) === JSON.stringify(status), sys.stat(`${folder}/none`), sys.fstat(-1)];
  told['flock'] = [
    sys.flock(fd, flock.LOCK_EX),
    sys.flock(fd, flock.LOCK_UN | flock.LOCK_NB),
    sys.flock(fd, 3),
    sys.flock(9999, flock.LOCK_SH),
  ];
  const locked = sys.open(path, open.O_RDWR, 0);
  told['flock of another'] = [sys.flock(fd, flock.LOCK_EX), sys.flock(locked, flock.LOCK_SH | flock.LOCK_NB)];
  told['close'] = [sys.close(fd), sys.close(fd), sys.close(-1), sys.close(locked)];
  const again = sys.open(path, open.O_RDONLY, 0);
  told['read'] = [
    sys.read(again, buffer, 3, 10),
    sys.decodeUtf8(buffer, 3, 4),
    sys.read(again, buffer, 0, 16),
    sys.read(again, buffer, 16, 0),
    sys.read(9999, buffer, 0, 1),
    sys.write(again, buffer, 0, 1),
    sys.ftruncate(again, 0),
    sys.poll(again, 0),
    sys.close(again),
  ];

  told['folders'] = [
    sys.mkdir(`${folder}/d`, 0o750),
    sys.mkdir(`${folder}/d`, 0o750),
    sys.link(path, `${folder}/d/b`),
    sys.link(path, `${folder}/d/b`),
    sys.getdents(`${folder}/d`),
    sys.getdents(path),
    sys.getdents(`${folder}/none`),
    sys.rmdir(`${folder}/d`),
    sys.rename(`${folder}/d/b`, `${folder}/c`),
    sys.rename(`${folder}/d/b`, `${folder}/c`),
    sys.unlink(`${folder}/d`),
    sys.unlink(`${folder}/none`),
    sys.rmdir(`${folder}/d`),
    sys.rmdir(path),
    (sys.getdents(folder) as string[]).sort(),
  ];
  told['utimensat'] = [
    sys.utimensat(folder, 1_600_000_000_250),
    (sys.stat(folder) as FileStatus).mtimeMs,
    sys.utimensat(`${folder}/none`, 0),
    sys.utimensat('a\0b', 0),
    sys.utimensat(folder, Number.NaN),
  ];
  const directory = sys.open(folder, open.O_RDONLY, 0);
  told['readlink'] = [sys.readlink(`/proc/self/fd/${directory}`) === folder, sys.readlink(path), sys.readlink('/none')];
  sys.close(directory);

  const [AF_NETLINK, SOCK_RAW, SOL_SOCKET, SO_RCVBUF, MSG_DONTWAIT, MSG_TRUNC] = [16, 3, 1, 8, 0x40, 0x20];
  const socket = sys.socket(AF_NETLINK, SOCK_RAW, 0);
  told['socket'] = [opened(socket), sys.socket(99, 1, 0), sys.socket(-1, 1, 0), sys.socket(AF_NETLINK, SOCK_RAW, 999)];
  const address = new ArrayBuffer(12);
  new DataView(address).setUint16(0, AF_NETLINK, true);
  told['bind'] = [sys.bind(socket, empty), sys.bind(socket, address), sys.bind(9999, address)];
  told['setsockopt'] = [
    sys.setsockopt(socket, SOL_SOCKET, SO_RCVBUF, new Int32Array([65536]).buffer),
    sys.setsockopt(socket, SOL_SOCKET, 9999, new Int32Array([1]).buffer),
    sys.setsockopt(socket, SOL_SOCKET, SO_RCVBUF, empty),
    sys.setsockopt(-1, SOL_SOCKET, SO_RCVBUF, empty),
  ];
  const started = sys.clock_gettime(clock.CLOCK_MONOTONIC);
  told['poll'] = [sys.poll(socket, 20), sys.poll(socket, 0), sys.poll(9999, 0)];
  const waited = sys.clock_gettime(clock.CLOCK_MONOTONIC) - started;
  told['poll waits'] = waited >= 20;
  const request = new ArrayBuffer(36); // RTM_GETLINK of interface 1, four bytes in
  const view = new DataView(request);
  view.setUint32(4, 32, true);
  view.setUint16(8, 18, true);
  view.setUint16(10, 1, true);
  view.setUint32(24, 1, true);
  told['sendto'] = [
    sys.sendto(socket, request, 4, 32, 0, null),
    sys.sendto(socket, request, 4, 32, 0, address),
    sys.sendto(socket, request, 4, 32, 0, new ArrayBuffer(1)),
    sys.sendto(9999, request, 4, 32, 0, null),
  ];
  told['recv'] = [
    sys.poll(socket, -1),
    sys.recv(socket, buffer, 0, 16, MSG_TRUNC) > 16,
    new DataView(buffer).getUint16(4, true),
    sys.recv(socket, buffer, 0, 16, 0),
    sys.recv(socket, buffer, 0, 16, MSG_DONTWAIT),
    sys.recv(-1, buffer, 0, 16, 0),
  ];
  const sender = new ArrayBuffer(12);
  told['recvfrom'] = [
    sys.sendto(socket, request, 4, 32, 0, null),
    sys.recvfrom(socket, buffer, 0, 16, MSG_TRUNC, sender) > 16,
    new DataView(sender).getUint16(0, true),
    sys.recvfrom(socket, buffer, 0, 16, MSG_DONTWAIT, sender),
    sys.recvfrom(-1, buffer, 0, 16, 0, sender),
    thrown(() => sys.recvfrom(socket, buffer, 9, 8, 0, sender)),
  ];
  sys.close(socket);

  const namespace = sys.open('/proc/thread-self/ns/net', open.O_RDONLY, 0);
  told['setns'] = [
    sys.geteuid() === 0 ? sys.setns(namespace, CLONE_NEWNET) : 0,
    sys.setns(9999, CLONE_NEWNET),
    sys.setns(-1, CLONE_NEWNET),
  ];
  sys.close(namespace);

  const shell = (command: string, stdin: ArrayBuffer, environment: readonly string[] = []) => {
    const result = sys.spawn('/bin/sh', ['shell', '-c', command], environment, stdin);
    return typeof result === 'number' ? result : [result.status, text(result.stdout), text(result.stderr)];
  };
  told['spawn'] = [
    shell('echo $0 $A; cat; echo oops >&2; exit 3', sys.encodeUtf8('in'), ['A=1 2', 'A=3', 'malformed']),
    shell('exit 0', new ArrayBuffer(1_000_000)),
    shell('head -c 300000 /dev/zero; cat >/dev/null; kill -TERM $$', new ArrayBuffer(300_000)).toString().length,
    shell('kill -KILL $$', empty),
    shell('/usr/bin/env | grep -c HOME=', empty),
    sys.spawn(`${folder}/none`, ['none'], [], empty),
    sys.spawn(path, ['a'], [], empty),
    sys.spawn('/bin/sh', ['sh', 'a\0b'], [], empty),
  ];

  told['process'] = [sys.argv.length > 0, sys.getpid() > 1, sys.geteuid(), sys.environ().includes('WEFT_TEST=a=b')];
  told['clock'] = [sys.clock_gettime(clock.CLOCK_REALTIME) > 1.7e12, sys.clock_gettime(99)];
  told['getrandom'] = [sys.getrandom(buffer, 0, 16), sys.getrandom(buffer, 16, 0)];
  told['text'] = [
    text(new Uint8Array([0xef, 0xbb, 0xbf, 0x61, 0xff, 0xe2, 0x82, 0x62]).buffer),
    text(sys.encodeUtf8('a\ud800b\udc00\u{10ffff}\0')),
    sys.encodeUtf8('').byteLength,
  ];
  return told;
}
