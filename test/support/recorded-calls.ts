/** The calls of CNI programs and their output, test by test: to compare two runtimes with the same bundle. */

import { type CallOptions, onCall, pluginFolder, stdinOf } from '../lab/plugin.ts';
import { record } from './record.ts';

/** One call's output with what differs from run to run replaced, for comparing two hosts of the same bundle. */
export interface RecordedCall {
  readonly test: string;
  readonly call: string;
  readonly status: number | null;
  readonly stdout: string;
}

let currentTest = '';

/** Names the test that the calls from now on belong to. */
export function recordAs(test: string): void {
  currentTest = test;
}

/** The versions that configurations asked for since the last `forgetVersions`. */
const asked = new Set<string>();
export const versionsAsked = (): ReadonlySet<string> => asked;
export const forgetVersions = (): void => asked.clear();

/** The cniVersion of a call's configuration, where it has one. */
function versionAsked(options: CallOptions): string | undefined {
  if (options.stdinFile !== undefined) return undefined;
  try {
    const configuration = JSON.parse(stdinOf(options)) as unknown;
    if (typeof configuration !== 'object' || configuration === null || Array.isArray(configuration)) return undefined;
    const key = Object.keys(configuration).find((name) => name.toLowerCase() === 'cniversion');
    return String((key && (configuration as Record<string, unknown>)[key]) || '0.1.0');
  } catch {
    return undefined;
  }
}

/** MACs by order of appearance; this run's folders, namespaces and process ids by a word. */
function withoutChance(text: string): string {
  const macs = new Map<string, string>();
  return (
    text
      .replace(/\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b/g, (mac) => {
        if (!macs.has(mac)) macs.set(mac, `<mac ${macs.size + 1}>`);
        return macs.get(mac)!;
      })
      .replaceAll(pluginFolder, '<plugins>')
      .replace(/weft-\d+-/g, 'weft-<pid>-')
      .replace(/(\/weft-<pid>-[a-z]+-)[A-Za-z0-9]{6}\b/g, '$1<folder>')
      // How many sites a suite has made depends on the versions that the host's rows are run at.
      .replace(/((?:weft-<pid>-[a-z]+-|<folder>\/)s)\d+\b/g, '$1<n>')
      .replace(/\bveth[0-9a-f]{8,11}\b/g, '<veth>')
  );
}

onCall((program, options, { status, stdout }) => {
  const entry: RecordedCall = {
    test: currentTest,
    call: [program, options.command, options.containerId, options.ifname].filter(Boolean).join(' '),
    status,
    stdout: withoutChance(stdout),
  };
  const version = versionAsked(options);
  if (version !== undefined) asked.add(version);
  record(entry);
});
