/** `weftctl nodes`: every lease of the cluster, with its node. */

import type { NodeSummary } from '../cluster/status.ts';
import { formatDocument, outputForm } from './output.ts';
import { count, formatSpan, formatTable, forScreen, type Style } from './text.ts';
import type { VerbContext } from './verb.ts';

const isWell = ({ health }: NodeSummary): boolean => health === undefined || health === 'ok';

/** The node's state in one word. */
function stateOf(node: NodeSummary, style: Style): string {
  if (node.alive === undefined) return style.dim(node.publicAddresses.length === 0 ? 'reserved' : 'not told');
  if (!node.alive) return style.red('down');
  if (!isWell(node)) return style.yellow('degraded');
  return style.green('up');
}

const orDash = (text: string | undefined): string => (text === undefined || text === '' ? '-' : text);

export async function run({ host, options, source, style }: VerbContext): Promise<number> {
  const form = outputForm(options);
  const answer = await source.nodes();
  const document = formatDocument(form, { nodes: answer.nodes, malformed: answer.malformed });
  if (document !== undefined) {
    host.stdout(document);
    return 0;
  }
  const { nodes, malformed } = forScreen(answer);
  const rows = nodes.map((node) => [
    node.node ?? style.dim('(flannel)'),
    orDash(node.subnets.join('\n')) + (node.reservation ? style.dim(' reserved') : ''),
    orDash(node.publicAddresses.join('\n')),
    orDash(node.backend),
    orDash(node.version),
    stateOf(node, style),
    node.alive && node.startedAt !== undefined ? formatSpan(host.nowMs() - Date.parse(node.startedAt)) : '-',
    node.containers === undefined ? '-' : String(node.containers),
    ...(form === 'wide' ? [orDash(node.startedAt), orDash(node.health)] : []),
  ]);
  const titles = ['NODE', 'SUBNET', 'PUBLIC ADDRESS', 'BACKEND', 'VERSION', 'STATE', 'UP FOR', 'CONTAINERS'];
  if (form === 'wide') titles.push('SINCE', 'HEALTH');
  if (rows.length === 0) host.stdout('No node has a subnet yet.\n');
  else host.stdout(formatTable(titles, rows, style));
  const ill = nodes.filter((node) => node.alive && !isWell(node));
  if (ill.length > 0) host.stdout(`\n${ill.map((node) => `${node.node ?? '-'}: ${node.health}\n`).join('')}`);
  if (malformed.length > 0) {
    host.stderr(`\n${count(malformed.length, 'entry')} in ${source.storeName ?? 'etcd'} cannot be read:\n`);
    for (const line of malformed) host.stderr(`  ${line}\n`);
  }
  return 0;
}
