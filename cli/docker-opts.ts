/**
 * `weftctl docker-opts`, also called as `mk-docker-opts.sh`: flannel's script of that name. Its options are getopts' and its
 * output is that of the script, because units and other scripts have both by heart. It reads subnet.env as text, and runs
 * nothing of it.
 */

import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { printable } from '../command/printable.ts';
import { NetlinkError, SyscallError } from '../linux/errors.ts';
import { openNetlink } from '../linux/netlink/connection.ts';
import { dumpLinks } from '../linux/netlink/link.ts';
import { dumpRoutes, rta } from '../linux/netlink/route.ts';
import { formatAddress } from '../net/address.ts';
import { variablesOfSubnetEnv } from '../net/node-file.ts';
import { formatPrefix, networkOf, type Prefix, parsePrefix, samePrefix } from '../net/prefix.ts';
import { CliError, type CliHost } from './host.ts';

interface DockerOptions {
  readonly flannelFile: string;
  readonly dockerFile: string;
  readonly individual: boolean;
  readonly combined: boolean;
  readonly ipMasq: boolean;
  readonly key: string;
}

/** The command line is wrong, or asks for help: the script then shows its usage, and fails. */
class HelpWanted extends Error {}

const usage = (
  name: string,
): string => `${name} [-f FLANNEL-ENV-FILE] [-d DOCKER-ENV-FILE] [-i] [-c] [-m] [-k COMBINED-KEY]

Generate Docker daemon options based on flannel env file
OPTIONS:
\t-f\tPath to flannel env file. Defaults to /run/flannel/subnet.env
\t-d\tPath to Docker env file to write to. Defaults to /run/docker_opts.env
\t-i\tOutput each Docker option as individual var. e.g. DOCKER_OPT_MTU=1500
\t-c\tOutput combined Docker options into DOCKER_OPTS var
\t-k\tSet the combined options key to this value (default DOCKER_OPTS=)
\t-m\tDo not output --ip-masq (useful for older Docker version)

`;

/** The options as getopts(1p) reads them: letters may stand together, a value may follow at once, a word ends them. */
function readOptions(name: string, args: readonly string[]): DockerOptions {
  const flags = { i: false, c: false, m: false };
  const values = { f: '/run/flannel/subnet.env', d: '/run/docker_opts.env', k: 'DOCKER_OPTS' };
  for (let at = 0; at < args.length && /^-./.test(args[at]!) && args[at] !== '--'; at++) {
    const letters = args[at]!;
    for (let i = 1; i < letters.length; i++) {
      const letter = letters[i]!;
      if (letter === 'i' || letter === 'c' || letter === 'm') {
        flags[letter] = true;
        continue;
      }
      if (letter !== 'f' && letter !== 'd' && letter !== 'k')
        throw new HelpWanted(`${name}: Illegal option -${letter}`);
      const value = letters.slice(i + 1) || args[++at];
      if (value === undefined) throw new HelpWanted(`${name}: No arg for -${letter} option`);
      values[letter] = value;
      break;
    }
  }
  if (!/^[A-Za-z_]\w*$/.test(values.k)) throw new CliError(`"${values.k}" (-k) is not the name of a variable`);
  const both = !flags.i && !flags.c;
  return {
    flannelFile: values.f,
    dockerFile: values.d,
    individual: flags.i || both,
    combined: flags.c || both,
    ipMasq: !flags.m,
    key: values.k,
  };
}

/** subnet.env is a few lines. */
const flannelFileLimitBytes = 64 * 1024;

/** The file's text; empty for anything but a regular file, as in the script. */
function readFlannelFile(path: string): string {
  try {
    const status = statSync(path, { throwIfNoEntry: false });
    if (!status?.isFile()) return '';
    if (status.size > flannelFileLimitBytes) throw new CliError(`"${path}" is too large to be flannel's file`);
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (error instanceof CliError) throw error;
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOTDIR') return '';
    throw new CliError(`Cannot read "${path}": ${code}`);
  }
}

/** The variables of the file, and those of the environment that it does not set. */
function readVariables(path: string, environment: CliHost['environment']): (name: string) => string {
  const ofFile = variablesOfSubnetEnv(readFlannelFile(path));
  return (name) => ofFile.get(name) ?? environment[name] ?? '';
}

/** Values stand between double quotes in a file that systemd and shells read. */
function checked(name: string, value: string): string {
  if (/["\\`$\n\r]/.test(value)) throw new CliError(`${name} holds a quote, a dollar sign or a line break: ${value}`);
  return value;
}

function dockerVariables(
  variable: (name: string) => string,
  options: DockerOptions,
  environment: CliHost['environment'],
): (readonly [string, string])[] {
  const found = new Map<string, string>();
  for (const [name, value] of Object.entries(environment)) {
    if (/^DOCKER_OPT_\w*$/.test(name)) found.set(name, value ?? '');
  }
  const subnet = variable('FLANNEL_SUBNET');
  if (subnet !== '') found.set('DOCKER_OPT_BIP', `--bip=${subnet}`);
  const mtu = variable('FLANNEL_MTU');
  if (mtu !== '') found.set('DOCKER_OPT_MTU', `--mtu=${mtu}`);
  const masquerades = variable('FLANNEL_IPMASQ');
  if (masquerades !== '' && options.ipMasq) {
    if (masquerades !== 'true' && masquerades !== 'false') {
      throw new CliError(`Invalid value of FLANNEL_IPMASQ: ${masquerades}`);
    }
    // One of the two masquerades, not both.
    found.set('DOCKER_OPT_IPMASQ', `--ip-masq=${masquerades === 'false'}`);
  }
  return [...found].sort(([a], [b]) => (a < b ? -1 : 1));
}

function formatFile(
  variables: readonly (readonly [string, string])[],
  options: DockerOptions,
  environment: CliHost['environment'],
): string {
  const { individual, combined, key } = options;
  const lines = individual ? variables.map(([name, value]) => `${name}="${checked(name, value)}"\n`) : [];
  if (combined) {
    const before = environment[key] ?? '';
    const words = variables.map(([name, value]) => ` ${checked(name, value)}`);
    lines.push(`${key}="${checked(key, before)}${before === '' ? '' : ' '}${words.join('')}"\n`);
  }
  return lines.join('');
}

/** A route by which the host would send the containers' packets elsewhere, in the words of `ip route`. */
async function routeElsewhere(host: CliHost, subnet: Prefix): Promise<string | undefined> {
  try {
    const connection = openNetlink(await host.loadSys());
    try {
      const network = networkOf(subnet);
      const route = connection
        .dump(dumpRoutes({ family: 4 }))
        .find(
          ({ destination, table, gateway }) =>
            gateway !== undefined &&
            (table || rta.RT_TABLE_MAIN) === rta.RT_TABLE_MAIN &&
            samePrefix(destination, network),
        );
      if (!route?.gateway) return undefined;
      const device = connection.dump(dumpLinks()).find(({ index }) => index === route.oif)?.name;
      return `${formatPrefix(network)} via ${formatAddress(route.gateway)}${device === undefined ? '' : ` dev ${device}`}`;
    } finally {
      connection.close();
    }
  } catch (error) {
    // Only a check: without the kernel's answer the file is as good.
    if (error instanceof SyscallError || error instanceof NetlinkError) return undefined;
    throw error;
  }
}

/**
 * @param name by which the program was called, for the usage
 * @returns the exit status
 */
export async function runDockerOpts(host: CliHost, name: string, args: readonly string[]): Promise<number> {
  const { environment } = host;
  try {
    const options = readOptions(name, args);
    const variable = readVariables(options.flannelFile, environment);
    const text = formatFile(dockerVariables(variable, options, environment), options, environment);
    try {
      writeFileSync(options.dockerFile, text);
    } catch (error) {
      throw new CliError(`Cannot write "${options.dockerFile}": ${(error as NodeJS.ErrnoException).code}`);
    }
    const subnet = parsePrefix(variable('FLANNEL_SUBNET'));
    const elsewhere = subnet && (await routeElsewhere(host, subnet));
    if (elsewhere !== undefined) {
      throw new CliError(`Your routing table already contains the subnet: ${elsewhere}`);
    }
    return 0;
  } catch (error) {
    if (error instanceof HelpWanted) host.stderr(`${printable(error.message)}\n${usage(name)}`);
    else if (error instanceof CliError) host.stderr(`${printable(error.message)}\n`);
    else throw error;
    return 1;
  }
}
