/**
 * `weftctl config import-v2`. The reservations are written before the config: a node that waits for the config would
 * otherwise lease a reserved subnet.
 */

import { checkConfigUpdate, RefusedError, updateConfig } from '../../cluster/administration.ts';
import type { Clock } from '../../cluster/clock.ts';
import { type EtcdEndpoints, parseEndpoints, parseEtcdOptions } from '../../cluster/etcd/options.ts';
import { openReservationWriter } from '../../cluster/etcd/reservations.ts';
import { longestV2Bytes, notV2, readV2 } from '../../cluster/etcd/v2-client.ts';
import { parseV2Tree, V2FormatError, type V2Network } from '../../cluster/etcd/v2-tree.ts';
import { openStore } from '../../cluster/stores/open-store.ts';
import { printable } from '../../command/printable.ts';
import { backends } from '../../daemon/backends/map.ts';
import { withoutTrailingSlashes } from '../../net/text.ts';
import { parseConfig, showConfigChange, warnOfConfig } from '../config-review.ts';
import { CliError } from '../host.ts';
import { readBoundedFile } from '../read-file.ts';
import { count } from '../text.ts';
import type { VerbContext } from '../verb.ts';
import { type ImportPlan, planImport } from './plan.ts';

/** The whole answer, which may be long in coming. */
const timeoutMs = 10_000;
/** As many lines say why a reservation is left. */
const mostTold = 20;

interface V2Source {
  readonly place: string;
  readonly text: string;
}

async function readSource({ host, words }: VerbContext, etcd: EtcdEndpoints, clock: Clock): Promise<V2Source> {
  const [word] = words;
  if (word === '-') return { place: 'the standard input', text: await host.readStdin() };
  if (word === undefined || /^https?:\/\//.test(word)) {
    const endpoints = word === undefined ? etcd.endpoints : parseEndpoints(word, 'The argument');
    return { place: endpoints.join(','), text: await readV2({ ...etcd, endpoints }, clock, timeoutMs) };
  }
  return { place: word, text: await readBoundedFile(word, longestV2Bytes) };
}

function parseSource({ place, text }: V2Source, prefix: string): V2Network & { readonly config: string } {
  let network: V2Network;
  try {
    network = parseV2Tree(text, prefix);
  } catch (error) {
    if (error instanceof V2FormatError) throw notV2(place, error.message);
    throw error;
  }
  const { config, networks, found } = network;
  if (config !== undefined) return { ...network, config };
  if (networks.length > 0) {
    throw new CliError(
      `There is no network config at "${prefix}/config" in ${place}, but several networks below it: give one by --from-prefix`,
      networks.slice(0, mostTold).map((name) => `--from-prefix ${prefix}/${name}`),
    );
  }
  throw new CliError(
    found
      ? `There is no network config at "${prefix}/config" in ${place}: there are only subnets`
      : `There is no key "${prefix}" in ${place}: give flannel's prefix by --from-prefix`,
  );
}

function tellLeft({ host }: VerbContext, { left, leases }: ImportPlan): void {
  for (const reason of left.slice(0, mostTold)) host.stderr(`weftctl: a reservation is left, ${printable(reason)}\n`);
  if (left.length > mostTold)
    host.stderr(`weftctl: ${count(left.length - mostTold, 'further reservation')} are left\n`);
  if (leases === 0) return;
  host.stdout(
    leases === 1
      ? 'A lease of a node is left: the node takes its subnet again when it starts.\n'
      : `${leases} leases of nodes are left: each node takes its subnet again when it starts.\n`,
  );
}

export async function run(context: VerbContext): Promise<number> {
  const { host, options } = context;
  const etcd = parseEtcdOptions(options);
  const clock: Clock = {
    nowMs: host.nowMs,
    setTimer(callback, delayMs) {
      const timer = setTimeout(callback, delayMs);
      return { cancel: () => clearTimeout(timer) };
    },
  };
  const prefix = withoutTrailingSlashes(options.text('from-prefix') ?? etcd.prefix);
  const source = await readSource(context, { ...etcd, prefix }, clock);
  const network = parseSource(source, prefix);
  const text = network.config.trim();
  const config = parseConfig(text);
  await warnOfConfig(context, text, config);
  const force = options.flag('force');
  const stores = await openStore({ etcd, backends, clock, random: host.random });
  const writer = openReservationWriter({ etcd, clock, random: host.random });
  try {
    const before = await stores.config.read();
    const isSame = before?.text.trim() === text;
    if (before && !isSame && !force) {
      const there = `etcd has another network config at ${stores.config.place} already`;
      throw new CliError(`Cannot import the network config: ${there} (--force replaces it)`);
    }
    const update = { text, expected: before?.version ?? '0', force };
    await checkConfigUpdate(stores, update, backends);
    const plan = planImport(network, config, { backends, there: (await stores.leases.list()).leases.all });
    if (!isSame) showConfigChange(context, before?.text, config);
    if (options.flag('dry-run')) {
      for (const { title } of plan.reservations) host.stdout(`  reservation: ${printable(title)}\n`);
      tellLeft(context, plan);
      host.stdout(`Nothing is written. It would come from ${printable(source.place)} to ${stores.config.place}.\n`);
      return 0;
    }
    const done = { written: 0, same: 0, taken: 0 };
    for (const reservation of plan.reservations) {
      const outcome = await writer.reserve(reservation, force);
      done[outcome]++;
      const how = { written: 'is written', same: 'is there already', taken: 'is left: v3 has another one there' }[
        outcome
      ];
      host.stdout(`  reservation: ${printable(reservation.title)} ${how}\n`);
    }
    if (!isSame) await updateConfig(stores, update, backends);
    tellLeft(context, plan);
    host.stdout(
      isSame ? 'The network config is there already.\n' : `The network config is written to ${stores.config.place}.\n`,
    );
    return plan.left.length + done.taken === 0 ? 0 : 1;
  } catch (error) {
    if (error instanceof RefusedError) throw new CliError(error.message, error.details, error);
    throw error;
  } finally {
    writer.close();
    stores.leases.close();
  }
}
