/** Makes an attachment as planned: the bridge, the veth pair, the container's end. Each step that succeeds leaves its undo. */

import { hasCode, NetlinkError } from '../linux/errors.ts';
import { newAddress } from '../linux/netlink/address.ts';
import { type NetlinkConnection, openNetlink } from '../linux/netlink/connection.ts';
import { openEvents, rtnlgrp } from '../linux/netlink/events.ts';
import {
  changeLink,
  createVeth,
  getLink,
  getLinkState,
  iff,
  type Link,
  type LinkState,
} from '../linux/netlink/link.ts';
import { newRoute } from '../linux/netlink/route.ts';
import { clock, type Sys } from '../linux/sys.ts';
import { setNewSysctl } from '../linux/sysctl.ts';
import type { Connections, Workplace } from './attachment-part.ts';
import { ensureBridge, ensureSysctls } from './bridge.ts';
import { removeLink } from './links.ts';
import { inContainer } from './namespaces.ts';
import type { AttachmentPlan } from './plan.ts';
import { CniError, errorCodes } from './spec/errors.ts';
import type { Result } from './spec/results.ts';
import type { UndoStack } from './undo.ts';

/** BR_STATE_FORWARDING, include/uapi/linux/if_bridge.h */
const forwardingState = 3;
const mostPorts = 1023;
/** The kernel needs about a millisecond. If it takes longer than this, something is wrong. */
const upDeadlineMs = 5_000;

export const interfaceExists = (ifname: string, netns: string, cause?: unknown): CniError =>
  new CniError(
    errorCodes.interfaceExists,
    `The container already has an interface "${ifname}" (namespace "${netns}"): DEL it first, or choose another CNI_IFNAME`,
    cause === undefined ? { details: `interface ${ifname} exists` } : { cause },
  );

/** It uses a connection of its own, because the connection of the ADD may have failed. */
function removeHostVeth(sys: Sys, name: string): void {
  const connection = openNetlink(sys);
  try {
    removeLink(connection, { name });
  } finally {
    connection.close();
  }
}

function createPair(
  sys: Sys,
  { host }: Connections,
  bridgeIndex: number,
  plan: AttachmentPlan,
  pod: number,
  undo: UndoStack,
) {
  const { name, mac, alias, mtuBytes, hairpin, isolated } = plan.host;
  const mtu = mtuBytes === undefined ? {} : { mtuBytes };
  const { container } = plan;
  const requests = [
    createVeth({
      name,
      mac,
      ...mtu,
      master: bridgeIndex,
      up: true,
      peer: { name: container.name, mac: container.mac, ...mtu, namespace: pod },
    }),
    changeLink({ name }, { alias, ...(hairpin || isolated ? { bridgePort: { hairpin, isolated } } : {}) }),
  ];
  let refused: NetlinkError | undefined;
  // As soon as the request is sent there may be a pair, even if the answer is lost.
  undo.push(`delete "${name}"`, () => {
    if (!refused) removeHostVeth(sys, name);
  });
  const [creation, change] = host.executeEach(requests);
  refused = creation;
  if (creation) throw creation;
  if (change) throw change;
}

/**
 * EEXIST: the container has an interface of that name, or the host's end of this attachment exists. EXFULL: the bridge has
 * as many ports as a bridge can have (BR_MAX_PORTS in net/bridge/br_private.h, and port 0 is none).
 */
function explainRefusal(error: unknown, { container }: Connections, plan: AttachmentPlan, netns: string): unknown {
  if (error instanceof NetlinkError && hasCode(error, 'EXFULL')) {
    return new CniError(
      errorCodes.kernelRefused,
      `The bridge "${plan.bridge.name}" has ${mostPorts} ports, and Linux allows no more: start the container on another host, ` +
        'or in another network of this host, with a "bridge" and a range of its own',
      { cause: error },
    );
  }
  if (!(error instanceof NetlinkError) || !hasCode(error, 'EEXIST')) return error;
  if (container.get(getLink({ name: plan.container.name }))) return interfaceExists(plan.container.name, netns, error);
  return new CniError(
    errorCodes.interfaceExists,
    `The host already has "${plan.host.name}", the other end of this container's "${plan.container.name}": DEL it first`,
    { cause: error },
  );
}

type State = Pick<LinkState, 'operstate' | 'portState'>;
const isOperational = (link: State): boolean => link.operstate === iff.IF_OPER_UP;
/** A link that has not followed its carrier yet has the state unknown. */
const isAwake = (link: State): boolean => isOperational(link) || link.operstate === iff.IF_OPER_UNKNOWN;
/** It was awake when it was read: one that was just made has no carrier then. */
const wasAwake = (link: Link): boolean => isAwake(link) && (link.flags & iff.IFF_LOWER_UP) !== 0;
const isForwarding = (link: State): boolean => isOperational(link) && link.portState === forwardingState;

/**
 * Waits until the link is ready. The kernel follows a carrier asynchronously. Since Linux 6.8 a query of the link makes
 * it do so at once; before that this waits for the event.
 * @param namespace the link's namespace; undefined for the host's
 * @param first the link's state, if it was just asked for
 */
function awaitLink(
  sys: Sys,
  connection: NetlinkConnection,
  name: string,
  namespace: number | undefined,
  isReady: (link: State) => boolean,
  first?: LinkState,
): LinkState {
  const look = (): LinkState => {
    const link = connection.get(getLinkState({ name }));
    if (link) return link;
    throw new CniError(errorCodes.kernelRefused, `The interface "${name}" was deleted while it was set up`);
  };
  const state = first ?? look();
  if (isReady(state)) return state;
  const now = () => sys.clock_gettime(clock.CLOCK_MONOTONIC);
  const deadline = now() + upDeadlineMs;
  const events = openEvents(sys, [rtnlgrp.RTNLGRP_LINK], namespace === undefined ? {} : { namespace });
  try {
    for (;;) {
      // Looks again now that events are received, so that no change is missed.
      const link = look();
      if (isReady(link)) return link;
      const left = deadline - now();
      if (left <= 0 || sys.poll(events.fd, Math.ceil(left)) === 0) {
        throw new CniError(
          errorCodes.linkNotUp,
          `The interface "${name}" did not come up within ${upDeadlineMs / 1000} s`,
        );
      }
      events.receiveEvents();
    }
  } finally {
    events.close();
  }
}

/** Sets the container's end up, on both sides of the pair, and then gives it addresses and routes. */
function configureContainer(
  sys: Sys,
  { host, container }: Connections,
  plan: AttachmentPlan,
  namespace: number,
  bridge: Link,
): void {
  const { name, mac, addresses, routes, up } = plan.container;
  if (!up) return;
  const state = container.executeAndGet(changeLink({ name }, { up: true }), getLinkState({ name }));
  const { index } = awaitLink(sys, container, name, namespace, isOperational, state);
  awaitLink(sys, host, plan.host.name, undefined, isForwarding);
  // A bridge whose ports are all down goes down, and its first port that is up wakes it, both asynchronously. Until
  // then it drops packets from the host to the container.
  if (!isOperational(bridge) && !wasAwake(bridge)) awaitLink(sys, host, plan.bridge.name, undefined, isAwake);
  container.execute([
    ...addresses.map((address) => newAddress({ index, ...address })),
    // A container in several networks has a default route from each, as with the reference plugins.
    ...routes.map((route) => newRoute({ oif: index, ...route }, 'beside')),
    // Setting the MAC again makes the kernel announce the addresses (arp_notify, ndisc_notify). Otherwise a neighbour
    // that still knows an earlier holder of an address could not reach the container until its entry expires.
    ...(addresses.length > 0 ? [changeLink({ index }, { mac })] : []),
  ]);
}

/** The bridge, and the pair that connects the container to it. */
function connect(place: Workplace, plan: AttachmentPlan, isConnected: boolean) {
  const { sys, request, namespaces, connections, undo } = place;
  const bridge = ensureBridge(sys, connections.host, plan);
  try {
    if (!isConnected) createPair(sys, connections, bridge.index, plan, namespaces.container, undo);
  } catch (error) {
    throw explainRefusal(error, connections, plan, request.netns);
  }
  const others = place.parts.flatMap((part) => part.afterConnect?.(place, plan, bridge) ?? []);
  return { bridge, others };
}

/**
 * Connects the container by a plan without addresses. The IPAM plugin that is called next may look at the interface or
 * send through it (dhcp).
 */
export function connectFirst(place: Workplace, plan: AttachmentPlan): void {
  connect(place, plan, false);
}

/**
 * Registers the undo so that the link is deleted before its addresses are released, although the pair was made first.
 */
export function undoLinkFirst({ sys, undo }: Workplace, { host }: AttachmentPlan): void {
  undo.push(`delete "${host.name}"`, () => removeHostVeth(sys, host.name));
}

/**
 * Carries out the plan.
 * @param isConnected whether `connectFirst` was called before
 * @returns the attachment's result
 * @throws the error of the first step that failed; `place.undo` then holds the steps to undo
 */
export function attach(place: Workplace, plan: AttachmentPlan, isConnected: boolean): Result {
  const { sys, namespaces, connections } = place;
  const { bridge, others } = connect(place, plan, isConnected);
  ensureSysctls(sys, plan.hostSysctls, setNewSysctl);
  inContainer(sys, namespaces, () => ensureSysctls(sys, plan.containerSysctls, setNewSysctl));
  configureContainer(sys, connections, plan, namespaces.container, bridge);
  const result = plan.result(bridge.mac);
  return { ...result, interfaces: [...result.interfaces, ...others] };
}
