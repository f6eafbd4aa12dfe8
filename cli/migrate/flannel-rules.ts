/**
 * The packet filter rules that flanneld leaves behind: chains of its own in the tables of iptables, or tables of its own.
 * Pure.
 */

/** flanneld's chains, by the table of iptables. */
const chains = { nat: ['FLANNEL-POSTRTG'], filter: ['FLANNEL-FWD'] } as const;

/** flanneld's tables of nf_tables, by family. */
export const flannelTables = [
  ['ip', 'flannel-ipv4'],
  ['ip6', 'flannel-ipv6'],
] as const;

/** Whether a rule of iptables-save jumps to one of flanneld's chains. */
const jumpsTo = (rule: string, names: readonly string[]): boolean =>
  names.some((name) => rule.endsWith(` -j ${name}`) || rule.includes(` -j ${name} `));

/**
 * What to give to `iptables-restore --noflush`, so that flanneld's chains are gone: one transaction for each table.
 * @param saved the text of `iptables-save`
 * @returns undefined if there is nothing of flanneld's
 */
export function planRemoval(saved: string): string | undefined {
  const out: string[] = [];
  let table = '';
  let lines: string[] = [];
  const flush = (): void => {
    if (lines.length > 0) out.push(`*${table}`, ...lines, 'COMMIT');
    lines = [];
  };
  for (const line of saved.split('\n')) {
    if (line.startsWith('*')) {
      flush();
      table = line.slice(1);
      continue;
    }
    const names: readonly string[] = Object.hasOwn(chains, table) ? chains[table as keyof typeof chains] : [];
    // Every jump is deleted before its chain: iptables-save lists chains first, so that they are removed at the end.
    const chain = /^:(\S+) /.exec(line)?.[1];
    if (chain !== undefined && names.includes(chain)) lines.push(`-F ${chain}`, `-X ${chain}`);
    const rule = /^-A (\S+) /.exec(line);
    if (rule && !names.includes(rule[1]!) && jumpsTo(line, names)) lines.unshift(line.replace(/^-A/, '-D'));
  }
  flush();
  return out.length === 0 ? undefined : `${out.join('\n')}\n`;
}

/** Whether flanneld's masquerading stands: its chain has a rule that masquerades, and a jump leads there. */
export function masquerades(saved: string): boolean {
  const [name] = chains.nat;
  const lines = saved.split('\n');
  return (
    lines.some((line) => line.startsWith(`-A ${name} `) && / -j MASQUERADE\b/.test(line)) &&
    lines.some((line) => line.startsWith('-A POSTROUTING ') && jumpsTo(line, [name]))
  );
}
