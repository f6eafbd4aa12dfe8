/** `weftctl doctor`: examines this host, and says what is wrong, why it hurts, and which command repairs it. */

import { defaultPaths } from '../../net/paths.ts';
import { withoutTrailingSlashes } from '../../net/text.ts';
import type { VerbContext } from '../verb.ts';
import { checks } from './checks/all.ts';
import { runChecks, within } from './examination.ts';
import { bindCheck, isSafe } from './host-check.ts';
import { type DoctorPaths, HostView, usualPluginFolders } from './host-view.ts';
import { formatJson, formatReport, type Row, rowsOf, statusOf } from './report.ts';

/** For each check. All of them together take a little longer at most, because they run beside each other. */
const checkDeadlineMs = 4000;
const fixDeadlineMs = 20_000;

/** Of containerd's configuration, in TOML. */
const containerd = {
  binDir: /^\s*bin_dir\s*=\s*["']([^"']+)["']/m,
  confDir: /^\s*conf_dir\s*=\s*["']([^"']+)["']/m,
} as const;

/** The folders of this host's container runtime: containerd's configuration may name others. */
function pathsOf({ options }: VerbContext, view: Pick<HostView, 'text' | 'sys'>): DoctorPaths {
  const text = (name: string, otherwise: string): string => withoutTrailingSlashes(options.text(name) ?? otherwise);
  const settings = view.text('/etc/containerd/config.toml') ?? '';
  const there = usualPluginFolders.filter((path) => typeof view.sys.stat(path) !== 'number');
  const usual =
    containerd.binDir.exec(settings)?.[1] ?? (there.length > 0 ? there : usualPluginFolders.slice(0, 1)).join(':');
  return {
    runDir: text('run-dir', defaultPaths.runDir),
    subnetFile: text('subnet-file', defaultPaths.subnetFile),
    dataDir: text('data-dir', defaultPaths.cniDataDir),
    confDir: text('conf-dir', containerd.confDir.exec(settings)?.[1] ?? '/etc/cni/net.d'),
    binDirs: (options.text('bin-dir') ?? usual).split(':').map(withoutTrailingSlashes),
  };
}

/** Runs the commands that are safe, one after the other, and looks again. */
async function repair(rows: readonly Row[]): Promise<Row[]> {
  const fixed: Row[] = [];
  for (const row of rows) {
    const { check, finding } = row;
    const { fix } = check;
    if (!fix || !isSafe(check, finding)) {
      fixed.push(row);
      continue;
    }
    try {
      await within(fixDeadlineMs, (signal) => fix.run(finding, signal));
      fixed.push({ ...row, fixed: true });
    } catch (error) {
      fixed.push({ ...row, fixed: false, fixFailure: error instanceof Error ? error.message : String(error) });
    }
  }
  return fixed;
}

export async function run(context: VerbContext): Promise<number> {
  const { host, options, source, style } = context;
  const sys = await host.loadSys();
  const text = (path: string): string | undefined => HostView.prototype.text.call({ sys }, path);
  const paths = pathsOf(context, { sys, text });
  const examine = () => {
    const view = new HostView(host, sys, source, paths);
    return runChecks(
      checks.map((check) => bindCheck(check, view)),
      checkDeadlineMs,
    );
  };
  let results = await examine();
  let rows = rowsOf(results);
  if (options.flag('fix') && rows.some(({ check, finding }) => isSafe(check, finding))) {
    const before = await repair(rows);
    results = await examine();
    const after = rowsOf(results);
    const key = ({ code, finding }: Row): string => `${code}\0${finding.subject}`;
    const open = new Set(after.map(key));
    // A command may succeed and mend nothing.
    const told = before.filter((row) => row.fixed !== undefined).map((row) => ({ ...row, fixed: !open.has(key(row)) }));
    const known = new Set(told.map(key));
    rows = [...told, ...after.filter((row) => !known.has(key(row)))];
  }
  host.stdout(options.flag('json') ? formatJson(rows, results) : formatReport(rows, results, style));
  return statusOf(rows, results);
}
