/**
 * The CNI programs: `weft`, and `weft-ipam` by that name. VERSION is answered from what is loaded here; everything
 * else is loaded by the command that needs it.
 */

import { formatVersions, supportedVersions } from './cni/spec/versions.ts';
import { sys } from './linux/sys-native.ts';
import { version } from './package.json';

const programName = (sys.argv[0] ?? '').split('/').pop() === 'weft-ipam' ? 'weft-ipam' : 'weft';

/** How long VERSION waits for a caller that has not written its stdin yet. It may also never come. */
const versionStdinTimeoutMs = 20;

function print(fd: number, text: string): void {
  const bytes = sys.encodeUtf8(text);
  for (let at = 0; at < bytes.byteLength; ) {
    const written = sys.write(fd, bytes, at, bytes.byteLength - at);
    if (written < 0) break;
    at += written;
  }
}

/** What came on stdin, as far as it is there: VERSION succeeds whatever it is. */
function peekStdin(): string {
  if (sys.poll(0, versionStdinTimeoutMs) !== 1) return '';
  const buffer = new ArrayBuffer(65536);
  const got = sys.read(0, buffer, 0, buffer.byteLength);
  return got > 0 ? sys.decodeUtf8(buffer, 0, got) : '';
}

function about(): string {
  const what =
    programName === 'weft'
      ? 'attaches containers to a network that spans hosts'
      : "hands out addresses from this node's subnets, or from ranges";
  return `${programName} ${version}: CNI plugin, ${what}\nCNI protocol versions supported: ${supportedVersions.join(', ')}\n`;
}

async function runCommand(environment: readonly string[]): Promise<number> {
  const [{ dispatch }, { readAll, writeAll }] = await Promise.all([
    import('./cni/spec/dispatch.ts'),
    import('./linux/files.ts'),
  ]);
  const stdio = {
    readStdin: () => readAll(sys, 0, 16 * 1024 * 1024, 'stdin'),
    decodeUtf8: (bytes: Uint8Array) => sys.decodeUtf8(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength),
    writeStdout: (text: string) => writeAll(sys, 1, new Uint8Array(sys.encodeUtf8(text)), 'stdout'),
  };
  return await dispatch(environment, stdio, async (command) => {
    if (programName === 'weft-ipam') {
      const { ipamVerb } = await import('./ipam/verbs.ts');
      return ipamVerb(sys, command);
    }
    switch (command) {
      case 'ADD': {
        const { runAdd } = await import('./cni/add.ts');
        return (request) => runAdd(sys, request);
      }
      case 'DEL': {
        const { runDel } = await import('./cni/del.ts');
        return (request) => runDel(sys, request);
      }
      case 'CHECK': {
        const { runCheck } = await import('./cni/check.ts');
        return (request) => runCheck(sys, request);
      }
      case 'STATUS': {
        const { runStatus } = await import('./cni/status.ts');
        return (request) => runStatus(sys, request);
      }
      case 'GC': {
        const { runGc } = await import('./cni/gc.ts');
        return (request) => runGc(sys, request);
      }
    }
  });
}

const environment = sys.environ();
const command = environment.find((entry) => entry.startsWith('CNI_COMMAND='))?.slice('CNI_COMMAND='.length) ?? '';
if (command === '') {
  print(2, about());
  sys.exit(0);
} else if (command === 'VERSION') {
  print(1, `${formatVersions(peekStdin())}\n`);
  sys.exit(0);
} else {
  sys.exit(await runCommand(environment));
}
