/** Programs of a local user without rights, who wants to be in weftd's way. */

import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Service } from './commands.ts';
import type { Scratch } from './scratch.ts';
import { waitFor } from './wait.ts';

const nobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--inh-caps=-all', '--'];
const module = (path: string): string => JSON.stringify(new URL(`../../linux/${path}`, import.meta.url).pathname);

/** Runs a script, in which `sys` is there, until it says that it is ready. */
async function start(
  scratch: Scratch,
  namespace: string,
  script: string,
  through: readonly string[],
): Promise<Service> {
  const logFile = join(scratch.folder, 'stranger.log');
  rmSync(logFile, { force: true });
  const whole = `const { sys } = await import(${module('sys-bun.ts')});
    ${script}
    console.log('ready');
    setInterval(() => {}, 1000);`;
  const stranger = scratch.start([...through, process.execPath, '-e', whole], { namespace, logFile });
  await waitFor('the stranger', () => {
    const said = existsSync(logFile) ? readFileSync(logFile, 'utf8') : '';
    if (!stranger.alive) throw new Error(`The stranger has ended: ${said}`);
    return said.includes('ready');
  });
  return stranger;
}

/** Takes the name of a datagram socket; one that begins with `@` is abstract. */
export const startSquatter = (scratch: Scratch, namespace: string, name: string, asRoot = false): Promise<Service> =>
  start(
    scratch,
    namespace,
    `const { encodeUnixAddress, unix } = await import(${module('unix-socket.ts')});
    const bound = sys.bind(sys.socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0), encodeUnixAddress(sys, ${JSON.stringify(name)}));
    if (bound < 0) throw new Error('bind: ' + bound);`,
    asRoot ? [] : nobody,
  );

/** Locks a file of this inode number on a new tmpfs, which numbers its files from the beginning. */
export const startLocker = (scratch: Scratch, namespace: string, inode: number): Promise<Service> =>
  start(
    scratch,
    namespace,
    `const { closeSync, openSync, statSync, unlinkSync } = await import('node:fs');
    for (let number = 0; number < ${inode}; ) {
      const fd = openSync('/mnt/lock', 'w');
      number = statSync('/mnt/lock').ino;
      if (number === ${inode} && sys.flock(fd, 2) === 0) break;
      if (number >= ${inode}) throw new Error('no file has the number ${inode}: ' + number);
      unlinkSync('/mnt/lock');
      closeSync(fd);
    }`,
    ['unshare', '--mount', 'sh', '-c', `mount -t tmpfs -o mode=1777 none /mnt && exec "$@"`, 'sh', ...nobody],
  );
