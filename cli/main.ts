/** weftctl: finds the verb and runs it. Every failure ends in one clear line. */

import { existsSync } from 'node:fs';
import { etcdOptions, parseEtcdOptions } from '../cluster/etcd/options.ts';
import { accessOptions, readKubernetesOptions } from '../cluster/kubernetes/options.ts';
import { StoreError } from '../cluster/store-errors.ts';
import {
  formatOptions,
  type OptionSpec,
  type ParsedOptions,
  parseOptions,
  suggestion,
  UsageError,
} from '../command/options.ts';
import { printable } from '../command/printable.ts';
import { defaultPaths, socketPath } from '../net/paths.ts';
import { withoutTrailingSlashes } from '../net/text.ts';
import { attachVerbs } from './attach/verbs.ts';
import { dockerPluginVerb } from './docker-plugin/verb.ts';
import { doctorVerb } from './doctor/description.ts';
import { gcVerb } from './gc/verb.ts';
import { CliError, type CliHost } from './host.ts';
import { importV2Verb } from './import-v2/verb.ts';
import { installVerbs } from './install/verbs.ts';
import { KubernetesSource } from './kubernetes-source.ts';
import { logsVerb } from './logs/verb.ts';
import { migrateVerb } from './migrate/verb.ts';
import { jsonOption, outputOptions } from './output.ts';
import { EtcdSource, SocketSource, type Source } from './source.ts';
import { type Style, styleFor } from './text.ts';
import { traceVerb } from './trace/verb.ts';
import type { Verb } from './verb.ts';

/** weftctl asks Kubernetes only where it is told to. */
const forWeftctl = (spec: OptionSpec): OptionSpec =>
  spec.name === 'kubeconfig-file'
    ? { ...spec, help: 'ask Kubernetes, by this kubeconfig, instead of weftd', byDefault: 'none: ask weftd' }
    : spec;

const verbs: readonly Verb[] = [
  {
    name: 'status',
    usage: '',
    summary: 'show this node: its subnet, its peers, its containers',
    description:
      "Asks weftd on this host. Containers come from the plugins' address store and the host's interfaces.\n" +
      'With --wait, it first waits until weftd is ready, and tells why it is not. The exit status is 1 if time runs out.',
    options: [
      ...outputOptions,
      { name: 'wait', kind: 'flag', help: 'wait until containers can start', commandLineOnly: true },
      {
        name: 'timeout',
        kind: 'integer',
        placeholder: 'SECONDS',
        help: 'how long --wait waits; 0: without end',
        byDefault: '60',
        lowest: 0,
        highest: 86_400,
        commandLineOnly: true,
      },
      {
        name: 'data-dir',
        kind: 'text',
        placeholder: 'DIR',
        help: "the folder of the plugins' address store",
        byDefault: defaultPaths.cniDataDir,
      },
    ],
    most: 0,
    load: () => import('./status.ts'),
  },
  {
    name: 'nodes',
    usage: '',
    summary: 'show all nodes of the cluster',
    description:
      'Lists every subnet lease with its node. A flannel node publishes neither its name nor whether it is alive.\n' +
      "With --kubeconfig-file it asks Kubernetes' API server, from any machine: a node is up if its kubelet says Ready.",
    options: [...outputOptions, ...accessOptions.map(forWeftctl)],
    most: 0,
    load: () => import('./nodes.ts'),
  },
  {
    name: 'config get',
    usage: '',
    summary: "print the cluster's network config",
    description: 'Prints the document unchanged; with --json, with all defaults filled in.',
    options: [jsonOption],
    most: 0,
    load: () => import('./config-get.ts'),
  },
  {
    name: 'config set',
    usage: '[JSON | FILE | -]',
    summary: "check the cluster's network config, then write it",
    description:
      'Takes the document itself, a file, or standard input, and shows the changes. It refuses a change that leaves\n' +
      'leases outside the network, or sets a backend that Weft does not run.',
    options: [
      { name: 'force', kind: 'flag', help: 'write the change even if it would be refused', commandLineOnly: true },
      { name: 'dry-run', kind: 'flag', help: 'show the changes and write nothing', commandLineOnly: true },
    ],
    most: 1,
    load: () => import('./config-set.ts'),
  },
  importV2Verb,
  doctorVerb,
  ...installVerbs,
  migrateVerb,
  ...attachVerbs,
  gcVerb,
  logsVerb,
  dockerPluginVerb,
  traceVerb,
  {
    name: 'docker-opts',
    usage: '[-f FILE] [-d FILE] [-i] [-c] [-m] [-k KEY]',
    summary: "write the options that give Docker's own network this node's subnet",
    description: `Reads subnet.env and writes a file of variables for docker.service, as flannel's mk-docker-opts.sh does:

  -f FILE  read this file instead of ${defaultPaths.subnetFile}
  -d FILE  write this file instead of /run/docker_opts.env
  -i       write each option as a variable: DOCKER_OPT_BIP, DOCKER_OPT_IPMASQ, DOCKER_OPT_MTU
  -c       write all options as one variable; without -i and -c it writes both
  -k KEY   name that variable KEY instead of DOCKER_OPTS
  -m       leave out --ip-masq

Called mk-docker-opts.sh, this executable does the same.`,
    options: [],
    most: 0,
    readsArguments: async (host, args) =>
      (await import('./docker-opts.ts')).runDockerOpts(host, 'weftctl docker-opts', args),
    load: () => {
      throw new UsageError('"docker-opts" must be the first argument');
    },
  },
];

const commonOptions: readonly OptionSpec[] = [
  {
    name: 'run-dir',
    kind: 'text',
    placeholder: 'DIR',
    help: "the folder of weftd's socket",
    byDefault: defaultPaths.runDir,
  },
  ...etcdOptions.map((spec) =>
    spec.name === 'etcd-endpoints'
      ? { ...spec, help: 'ask etcd at these comma-separated endpoints instead of weftd', byDefault: 'none: ask weftd' }
      : spec,
  ),
  { name: 'help', kind: 'flag', help: 'print this help and exit', commandLineOnly: true },
  { name: 'version', kind: 'flag', help: 'print the version and exit', commandLineOnly: true },
];

function helpText(): string {
  const width = Math.max(...verbs.map(({ name }) => name.length));
  return `weftctl: shows and configures a Weft network

Usage: weftctl [OPTION]... VERB

Verbs:
${verbs.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`).join('\n')}

Options:
${formatOptions(commonOptions)}

"weftctl VERB --help" prints the options of a verb. Options can also come from the environment:
WEFTD_ETCD_ENDPOINTS sets --etcd-endpoints. If it is not set, weftctl reads FLANNELD_ETCD_ENDPOINTS.
`;
}

const verbHelpText = (verb: Verb): string => `weftctl ${verb.name}: ${verb.summary}

Usage: weftctl [OPTION]... ${`${verb.name} ${verb.usage}`.trim()}

${verb.description}
${verb.readsArguments ? '' : `\nOptions:\n${formatOptions([...verb.options, ...commonOptions])}\n`}`;

/** Every option once. `checkOptions` refuses those of other verbs. */
const allOptions: readonly OptionSpec[] = [
  ...new Map([...commonOptions, ...verbs.flatMap(({ options }) => options)].map((spec) => [spec.name, spec])).values(),
];

/** @throws UsageError */
function findVerb(words: readonly string[]): { verb: Verb; rest: readonly string[] } {
  for (const verb of verbs) {
    const parts = verb.name.split(' ');
    if (parts.every((part, i) => words[i] === part)) return { verb, rest: words.slice(parts.length) };
  }
  const [first = '', second] = words;
  const inner = verbs.filter(({ name }) => name.startsWith(`${first} `)).map(({ name }) => name.split(' ')[1]!);
  if (inner.length > 0) {
    throw new UsageError(
      second === undefined
        ? `"${first}" needs a verb of its own: ${inner.slice(0, -1).join(', ')}${inner.length > 1 ? ' or ' : ''}${inner.at(-1)}`
        : `Unknown verb "${first} ${second}"${suggestion(second, inner) || `; there are: ${inner.join(', ')}`}`,
    );
  }
  const names = [...new Set(verbs.map(({ name }) => name.split(' ')[0]!))];
  throw new UsageError(`Unknown verb "${first}"${suggestion(first, names) || '; see "weftctl --help"'}`);
}

/** Refuses options of other verbs. @throws UsageError */
function checkOptions(verb: Verb, given: ParsedOptions): void {
  const known = new Set([...verb.options, ...commonOptions].map(({ name }) => name));
  const foreign = allOptions.find(({ name }) => given.has(name) && !known.has(name));
  if (foreign) throw new UsageError(`Option "--${foreign.name}" does not belong to "${verb.name}"`);
}

/**
 * Asks Kubernetes if the command line names it, etcd if the command line names it, or if the environment names it and no weftd runs; otherwise asks weftd.
 * @param given the options of the command line alone
 */
function openSource(host: CliHost, given: ParsedOptions, options: ParsedOptions): Source {
  const path = socketPath(withoutTrailingSlashes(options.text('run-dir') ?? defaultPaths.runDir));
  const socket = new SocketSource(path);
  const asksKubernetes = given.has('kubeconfig-file') || given.has('kube-api-url');
  if (asksKubernetes && given.has('etcd-endpoints')) {
    throw new UsageError('Options --etcd-endpoints and --kubeconfig-file exclude each other');
  }
  if (asksKubernetes) return new KubernetesSource(readKubernetesOptions(options), host, socket);
  const asksEtcd = given.has('etcd-endpoints') || (options.has('etcd-endpoints') && !existsSync(path));
  return asksEtcd ? new EtcdSource(parseEtcdOptions(options), host, socket) : socket;
}

/** Colours and a width only for a terminal (no-color.org). */
function styleOf({ stdoutIsTerminal, stdoutColumns, environment }: CliHost, options: ParsedOptions): Style {
  const hasColours = stdoutIsTerminal && !environment['NO_COLOR'] && environment['TERM'] !== 'dumb';
  return styleFor(hasColours, stdoutIsTerminal && options.text('o') !== 'wide' ? stdoutColumns : undefined);
}

async function dispatch(host: CliHost): Promise<number> {
  const [first, ...others] = host.args;
  const independent = verbs.find(({ name, readsArguments }) => readsArguments && name === first)?.readsArguments;
  if (independent && others[0] !== '--help') return independent(host, others);
  // Parsed without the environment, because only the command line can choose etcd while weftd runs.
  const given = parseOptions(allOptions, host.args, {});
  if (given.flag('version')) {
    host.stdout(`weftctl ${host.version}\n`);
    return 0;
  }
  const askedForHelp = given.flag('help') || given.words[0] === 'help';
  const words = given.words[0] === 'help' ? given.words.slice(1) : given.words;
  if (words.length === 0) {
    (askedForHelp ? host.stdout : host.stderr)(helpText());
    return askedForHelp ? 0 : 2;
  }
  const { verb, rest } = findVerb(words);
  if (askedForHelp) {
    host.stdout(verbHelpText(verb));
    return 0;
  }
  checkOptions(verb, given);
  if (rest.length > verb.most) throw new UsageError(`Unexpected argument "${rest[verb.most]}" for "${verb.name}"`);
  const options = parseOptions(allOptions, host.args, host.environment);
  const source = openSource(host, given, options);
  try {
    const module = await verb.load();
    return await module.run({ host, options, words: rest, style: styleOf(host, options), source });
  } finally {
    source.close();
  }
}

/** @returns the exit status: 0; 1 if it failed; 2 for a wrong command line */
export async function run(host: CliHost): Promise<number> {
  try {
    return await dispatch(host);
  } catch (error) {
    if (error instanceof UsageError) {
      host.stderr(`weftctl: ${printable(error.message)}\n`);
      return 2;
    }
    if (error instanceof CliError || error instanceof StoreError) {
      host.stderr(`weftctl: ${printable(error.message)}\n`);
      for (const detail of error instanceof CliError ? error.details : []) host.stderr(`  ${printable(detail)}\n`);
      return 1;
    }
    throw error;
  }
}
