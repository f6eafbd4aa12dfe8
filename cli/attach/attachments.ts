/** `weftctl attachments`: the interfaces that `weftctl attach` made, and what became of them. */

import { namespaceIdentity } from '../../linux/process.ts';
import { checkByChain } from '../../networks/chain.ts';
import { NetworkError, parseNetworkList } from '../../networks/list.ts';
import { formatDocument, outputForm } from '../output.ts';
import { formatSpan, formatTable, forScreen, type Style, shortId } from '../text.ts';
import type { VerbContext } from '../verb.ts';
import { toCliError } from './attach.ts';
import { type NetworkPlace, networkPlace } from './options.ts';
import { type AttachmentRecord, addressesOf, hasInterface, isAlive, readRecords } from './records.ts';

/** ended: the container does not run any more, or has restarted. */
type State = 'up' | 'ended' | 'no interface';

function stateOf({ sys }: NetworkPlace, record: AttachmentRecord): State {
  if (!isAlive(sys, record) || namespaceIdentity(sys, record.netns) === undefined) return 'ended';
  return hasInterface(sys, record.netns, record.ifname) ? 'up' : 'no interface';
}

/** The plugins' own opinion; undefined if all is well. */
function faultOf(place: NetworkPlace, record: AttachmentRecord): string | undefined {
  try {
    const list = parseNetworkList(record.config, `The configuration of "${record.network}"`);
    checkByChain(place, list, record, record.result);
    return undefined;
  } catch (error) {
    if (error instanceof NetworkError) return error.message;
    throw error;
  }
}

function toDocument(place: NetworkPlace, record: AttachmentRecord, isChecked: boolean) {
  const { network, containerId, ifname, attachedBy, result } = record;
  const { runtime, name, pid, since } = attachedBy;
  const state = stateOf(place, record);
  const fault = isChecked && state === 'up' ? faultOf(place, record) : undefined;
  return {
    containerId,
    runtime,
    ...(name === '' ? {} : { name }),
    pid,
    network,
    interface: ifname,
    addresses: addressesOf(result),
    since,
    state,
    ...(fault === undefined ? {} : { fault }),
  };
}

function stateText({ state, fault }: ReturnType<typeof toDocument>, style: Style): string {
  if (fault !== undefined) return style.red(fault);
  if (state === 'up') return style.green(state);
  return state === 'ended' ? style.yellow('container ended; "weftctl gc" frees it') : style.red(state);
}

export async function run({ host, options, style }: VerbContext): Promise<number> {
  const form = outputForm(options);
  const place = await networkPlace(host, options);
  try {
    const documents = readRecords(place).map((record) => toDocument(place, record, options.flag('check')));
    const document = formatDocument(form, { attachments: documents });
    if (document !== undefined) {
      host.stdout(document);
      return 0;
    }
    if (documents.length === 0) {
      host.stdout('Nothing is attached by "weftctl attach" here.\n');
      return 0;
    }
    const rows = forScreen(documents).map((each) => [
      each.name ?? (each.runtime === 'pid' ? `process ${each.pid}` : shortId(each.containerId)),
      each.runtime,
      each.interface,
      each.addresses.join('\n') || '-',
      each.network,
      formatSpan(host.nowMs() - Date.parse(each.since)),
      ...(form === 'wide' ? [each.containerId, String(each.pid), each.since] : []),
      stateText(each, style),
    ]);
    const further = form === 'wide' ? ['ID', 'PID', 'AT'] : [];
    const titles = ['CONTAINER', 'RUNTIME', 'INTERFACE', 'ADDRESS', 'NETWORK', 'SINCE', ...further, 'STATE'];
    host.stdout(formatTable(titles, rows, style));
    return 0;
  } catch (error) {
    throw toCliError(error);
  }
}
