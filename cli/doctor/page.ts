/** docs/troubleshooting.md, made of the checks and of weftd's own problems. */

import { problemKinds } from '../../daemon/report/problem-catalogue.ts';
import { checks } from './checks/all.ts';
import { exitStatus } from './report.ts';

/** Names of programs keep their small letters. */
const sentence = (text: string): string =>
  /^(weftd|etcd)\b/.test(text) ? `${text}.` : `${text[0]!.toUpperCase()}${text.slice(1)}.`;

const section = ({ code, title, severity, why, remedy, safe }: (typeof checks)[number]): string => `## ${code}

${sentence(title)} This is ${severity === 'error' ? 'an error' : 'a warning'}.

- Why it hurts: ${why}.
- What repairs it: ${remedy}.${safe ? ' `weftctl doctor --fix` does it.' : ''}
`;

const problemRow = ({ code, title, severity }: (typeof problemKinds)[keyof typeof problemKinds]): string =>
  `| \`${code}\` | ${severity} | ${title} |`;

export const formatPage = (): string => `# Troubleshooting

Run \`weftctl doctor\` as root on the host in question. It examines the host, and needs no weftd for most of that. Each finding
says what is wrong, why it hurts, and the command that repairs it. The commands below are examples; doctor prints them with
the names of your host.

\`weftctl doctor --fix\` runs the commands that harm no packet, container or foreign setting. \`--json\` is for programs. The
exit status is ${exitStatus.well} if all is well, ${exitStatus.warnings} with warnings only, and ${exitStatus.errors} with errors.

This page is made of the checks themselves. Each section has the code of a finding as its heading.

${checks.map(section).join('\n')}
## Problems that weftd reports

\`weftctl status\` shows them, and doctor, too. The line itself says what to do.

| code | severity | meaning |
| --- | --- | --- |
${Object.values(problemKinds).map(problemRow).join('\n')}
`;
