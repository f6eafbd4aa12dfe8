/** Docker's own network: a drop-in that makes docker.service use this node's subnet. */

import { CliError } from '../host.ts';

export const dockerOptsPath = '/run/docker_opts.env';

const variables = ['$DOCKER_OPT_BIP', '$DOCKER_OPT_IPMASQ', '$DOCKER_OPT_MTU'];

/**
 * The drop-in for the unit of this host's package.
 * @param unit the text of docker.service
 * @param programFolder where weftctl is
 * @throws CliError for a unit that does not start one command
 */
export function formatDockerDropIn(unit: string, programFolder: string): string {
  // A line may go on behind a backslash.
  const lines = unit.replaceAll('\\\n', ' ').split('\n');
  const commands = lines.filter((line) => line.startsWith('ExecStart=')).map((line) => line.slice(10).trim());
  const command = commands.filter((each) => each !== '').at(-1);
  if (command === undefined || !/^[-@:+!]*\//.test(command)) {
    throw new CliError('Cannot change docker.service: it has no ExecStart that names a program');
  }
  // Given twice, an option of Docker's is an error.
  const added = variables.filter((variable) => !command.includes(variable));
  return `# Made by "weftctl install": docker0 gets this node's subnet.
[Unit]
Wants=weftd.service
After=weftd.service

[Service]
# Without the node's subnet Docker must not start: it would choose a network of its own.
ExecStartPre=${programFolder}/weftctl docker-opts -i -d ${dockerOptsPath}
ExecStartPre=/bin/grep -q ^DOCKER_OPT_BIP= ${dockerOptsPath}
EnvironmentFile=-${dockerOptsPath}
ExecStart=
ExecStart=${[command, ...added].join(' ')}
`;
}
