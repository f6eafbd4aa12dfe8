/**
 * `loopback`: sets a container's `lo` up. A runtime calls it before the network's plugins, and finds it in the folder of the
 * plugins; this is for hosts that have no other.
 */

import { dumpAddresses } from '../linux/netlink/address.ts';
import type { NetlinkConnection } from '../linux/netlink/connection.ts';
import { changeLink, getLink, type Link } from '../linux/netlink/link.ts';
import type { Sys } from '../linux/sys.ts';
import { openContainerNetlink, openNamespaces } from './namespaces.ts';
import { CniError, errorCodes } from './spec/errors.ts';
import { lookUp } from './spec/keys.ts';
import type { CniRequest, Deliver, Verb } from './spec/request.ts';
import { formatResult } from './spec/results.ts';

/** CNI_IFNAME says another name as a rule: libcni calls every plugin of a container with the same. */
const name = 'lo';

function withContainer<T>(sys: Sys, request: CniRequest, work: (container: NetlinkConnection) => T): T {
  const namespaces = openNamespaces(sys, request);
  try {
    const container = openContainerNetlink(sys, namespaces, request.netns);
    try {
      return work(container);
    } finally {
      container.close();
    }
  } finally {
    sys.close(namespaces.host);
    sys.close(namespaces.container);
  }
}

function findLoopback(container: NetlinkConnection): Link {
  const link = container.get(getLink({ name }));
  if (link) return link;
  throw new CniError(errorCodes.attachmentDiffers, `The container has no interface "${name}"`);
}

function runAdd(sys: Sys, request: CniRequest, deliver: Deliver): void {
  const { configuration, cniVersion, netns } = request;
  const addresses = withContainer(sys, request, (container) => {
    const { index } = findLoopback(container);
    container.execute([changeLink({ index }, { up: true })]);
    return container.dump(dumpAddresses({ index })).map(({ prefix }) => prefix);
  });
  const prevResult = lookUp(configuration, 'prevResult');
  if (typeof prevResult === 'object' && prevResult !== null) {
    deliver(JSON.stringify({ ...prevResult, cniVersion }));
    return;
  }
  const result = {
    interfaces: [{ name, mac: '00:00:00:00:00:00', sandbox: netns }],
    ips: addresses.map((address) => ({ address, interface: 0 })),
    routes: [],
    dns: {},
  };
  deliver(formatResult(result, cniVersion));
}

/** It is no error if the namespace is gone. */
function runDelete(sys: Sys, request: CniRequest): void {
  if (request.netns === '') return;
  try {
    withContainer(sys, request, (container) => {
      const link = container.get(getLink({ name }));
      if (link) container.execute([changeLink({ index: link.index }, { up: false })]);
    });
  } catch (error) {
    if (!(error instanceof CniError) || error.code !== errorCodes.badNamespace) throw error;
  }
}

function runCheck(sys: Sys, request: CniRequest): void {
  const { up } = withContainer(sys, request, findLoopback);
  if (!up) throw new CniError(errorCodes.attachmentDiffers, `The container's interface "${name}" is down`);
}

/** The verb of a command. STATUS and GC have nothing to do. */
export function loopbackVerb(sys: Sys, command: CniRequest['command']): Verb {
  return (request, deliver) => {
    if (command === 'ADD') runAdd(sys, request, deliver);
    else if (command === 'DEL') runDelete(sys, request);
    else if (command === 'CHECK') runCheck(sys, request);
  };
}
