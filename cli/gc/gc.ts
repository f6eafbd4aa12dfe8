/**
 * `weftctl gc`: frees the addresses of containers that ended without a DEL. It looks twice, with a pause in between, and
 * frees only what was dead both times. Each is freed by DEL of the plugins that made it: unlike the plugins' GC, which removes
 * everything that is not in a list, a DEL cannot hit a container that starts meanwhile.
 */

import { UsageError } from '../../command/options.ts';
import { defaultPaths } from '../../net/paths.ts';
import { removeCachedResult } from '../../networks/cached-results.ts';
import { removeByChain } from '../../networks/chain.ts';
import type { Runtime } from '../../runtimes/container.ts';
import { runtimesOfHost } from '../../runtimes/on-this-host.ts';
import { toCliError } from '../attach/attach.ts';
import { type NetworkPlace, networkPlace } from '../attach/options.ts';
import { formatDocument, type OutputForm, outputForm } from '../output.ts';
import { count, formatTable, forScreen, type Style, shortId } from '../text.ts';
import type { VerbContext } from '../verb.ts';
import { type Evidence, lookAround, type Subject } from './evidence.ts';
import { deadTwice, judge, keyOf } from './verdict.ts';

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

const defaultGraceSeconds = 10;

const runtimeKinds: readonly string[] = ['docker', 'podman', 'cri'];

/** What gc did with an attachment, or left. */
interface Outcome {
  readonly subject: Subject;
  readonly action: 'freed' | 'would free' | 'kept' | 'failed';
  readonly why: string;
}

const deadIn = (evidence: Evidence): Subject[] =>
  evidence.subjects.filter((subject) => judge(subject, evidence).state === 'dead');

/** @returns why it could not be freed; undefined if it was */
function free(place: NetworkPlace, { network, containerId, ifname, cached, list }: Subject): string | undefined {
  const target = {
    ...{ containerId, ifname, netns: '' },
    args: cached?.args ?? [],
    capabilityArgs: cached?.capabilityArgs ?? {},
  };
  const failures = removeByChain(place, list!, target, cached?.result);
  // libcni's result stays, so that the plugin that failed is called again.
  if (failures.length > 0) return failures.map(({ message }) => message).join('; ');
  if (cached) removeCachedResult(place.sys, place.cacheDir, { ...cached, network });
  return undefined;
}

function formatOutcomes(outcomes: readonly Outcome[], form: OutputForm, style: Style): string {
  const colour = { freed: style.green, 'would free': style.yellow, kept: style.dim, failed: style.red };
  const rows = outcomes.map(({ subject, action, why }) => [
    subject.addresses.join('\n') || '-',
    form === 'wide' ? subject.containerId : shortId(subject.containerId),
    subject.ifname || '-',
    subject.network,
    colour[action](action),
    why,
  ]);
  return formatTable(['ADDRESS', 'CONTAINER', 'INTERFACE', 'NETWORK', 'ACTION', 'REASON'], rows, style);
}

const toDocument = ({ subject, action, why }: Outcome): object => ({
  network: subject.network,
  containerId: subject.containerId,
  interface: subject.ifname,
  addresses: subject.addresses,
  action,
  reason: why,
});

/** Looks once, and a second time if something seems dead. */
async function findDead(
  context: VerbContext,
  look: () => Promise<Evidence>,
): Promise<{ evidence: Evidence; dead: Subject[] }> {
  const { host, options } = context;
  const first = await look();
  const before = deadIn(first);
  if (before.length === 0) return { evidence: first, dead: [] };
  const graceSeconds = options.integer('grace') ?? defaultGraceSeconds;
  host.stderr(
    `weftctl: ${count(before.length, 'attachment')} without a sign of life; looking again in ${graceSeconds} s\n`,
  );
  await pause(graceSeconds * 1000);
  const evidence = await look();
  return { evidence, dead: deadTwice(before, deadIn(evidence)) as Subject[] };
}

export async function run(context: VerbContext): Promise<number> {
  const { host, options, style } = context;
  const form = outputForm(options);
  const place = await networkPlace(host, options);
  const dataDir = options.text('data-dir') ?? defaultPaths.cniDataDir;
  const left = new Set(options.list('without'));
  const unknown = [...left].find((word) => !runtimeKinds.includes(word));
  if (unknown !== undefined) throw new UsageError(`"${unknown}" (--without) is none of ${runtimeKinds.join(', ')}`);
  const runtimes: Runtime[] = runtimesOfHost(place.sys, host.environment).filter(({ kind }) => !left.has(kind));
  try {
    const { evidence, dead } = await findDead(context, () => lookAround(place, dataDir, runtimes));
    const isDry = options.flag('dry-run');
    const condemned = new Set(dead.map(keyOf));
    let living = 0;
    const outcomes = evidence.subjects.flatMap((subject): Outcome[] => {
      const verdict = judge(subject, evidence);
      if (verdict.state === 'alive') {
        living++;
        return [];
      }
      if (verdict.state === 'kept') return [{ subject, action: 'kept', why: verdict.why }];
      if (!condemned.has(keyOf(subject))) return [{ subject, action: 'kept', why: 'it has changed a moment ago' }];
      if (isDry) return [{ subject, action: 'would free', why: verdict.why }];
      const failure = free(place, subject);
      return [
        failure === undefined
          ? { subject, action: 'freed', why: verdict.why }
          : { subject, action: 'failed', why: failure },
      ];
    });
    const document = formatDocument(form, { living, attachments: outcomes.map(toDocument) });
    if (document !== undefined) {
      host.stdout(document);
    } else {
      if (outcomes.length > 0) host.stdout(formatOutcomes(forScreen(outcomes), form, style));
      host.stdout(`${outcomes.length > 0 ? '\n' : 'Nothing to free: '}${count(living, 'attachment')} alive.\n`);
    }
    return outcomes.some(({ action }) => action === 'failed') ? 1 : 0;
  } catch (error) {
    throw toCliError(error);
  }
}
