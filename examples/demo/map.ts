/** The cluster as a picture of at most 100 columns: etcd, the switch, the hosts and their contents. */

import type { Host } from '../../test/lab/host.ts';
import { readLink } from '../../test/lab/kernel-state.ts';
import { blue, bold, cyan, dim, green, padEnd, yellow } from './screen.ts';

/** Between its borders. */
const boxWidth = 28;
const gap = 3;

/** The lines of one host's box, and which of them is the tunnel's. */
function hostBox(host: Host): string[] {
  const tunnel = readLink(host.namespace, 'flannel.1');
  const bridge = readLink(host.namespace, 'cni0');
  const row = (name: string, value: string): string => ` ${padEnd(name, 11)}${value}`;
  const pods = host.pods.filter(({ address }) => address !== '');
  return [
    row(dim('eth0'), host.address),
    row(yellow('flannel.1'), yellow(tunnel?.addresses[0]?.replace('/32', '') ?? 'missing')),
    row(blue('cni0'), blue(bridge?.addresses[0] ?? 'missing')),
    ...pods.map((pod, i) => row(`${dim(i === pods.length - 1 ? '╰─' : '├─')} ${pod.name}`, green(pod.address))),
  ];
}

/** A row of the picture: the boxes' parts side by side, joined by `between`. */
const side = (parts: readonly string[], between = ' '.repeat(gap)): string => `   ${parts.join(between)}`;

export function drawMap(hosts: readonly Host[], etcd: string): string[] {
  const boxes = hosts.map(hostBox);
  const height = Math.max(...boxes.map((lines) => lines.length));
  const inner = hosts.length * (boxWidth + 2) + (hosts.length - 1) * gap;
  const middle = Math.floor(inner / 2);
  const centres = hosts.map((_, i) => i * (boxWidth + 2 + gap) + Math.floor(boxWidth / 2) + 1);

  const label = ` etcd  ${etcd.replace('http://', '')} `;
  const left = middle - Math.floor(label.length / 2) - 1;
  const at = (column: number, text: string): string => `   ${' '.repeat(column)}${text}`;
  const wire = Array.from({ length: inner }, (_, column) => {
    const [first, last] = [centres[0]!, centres.at(-1)!];
    if (column < first || column > last) return ' ';
    const down = centres.includes(column);
    if (column === first) return '╭';
    if (column === last) return '╮';
    if (column === middle) return down ? '┼' : '┴';
    return down ? '┬' : '─';
  }).join('');

  const lines = [
    at(left, `╭${'─'.repeat(label.length)}╮`),
    at(left, `│${cyan(label)}│`),
    at(left, `╰${'─'.repeat(middle - left - 1)}┬${'─'.repeat(label.length - (middle - left - 1) - 1)}╯`),
    at(0, dim(wire.trimEnd())),
    side(
      hosts.map(({ name }) => {
        const before = Math.floor(boxWidth / 2);
        const title = ` ${name} `;
        const line = `╭─${bold(title)}${'─'.repeat(before - title.length - 1)}┴${'─'.repeat(boxWidth - before - 1)}╮`;
        return line;
      }),
    ),
  ];
  for (let row = 0; row < height; row++) {
    const tunnel = row === 1;
    const parts = boxes.map((box, i) => {
      const start = tunnel && i > 0 ? yellow('╞') : '│';
      const end = tunnel && i < boxes.length - 1 ? yellow('╡') : '│';
      return `${start}${padEnd(box[row] ?? '', boxWidth)}${end}`;
    });
    lines.push(side(parts, tunnel ? yellow('═'.repeat(gap)) : undefined));
  }
  lines.push(side(hosts.map(() => `╰${'─'.repeat(boxWidth)}╯`)));
  lines.push(
    `   ${yellow('═══')} VXLAN, VNI 1, from every host to every other      ${dim('───')} underlay 192.168.77.0/24, MTU 1500`,
  );
  return lines;
}
