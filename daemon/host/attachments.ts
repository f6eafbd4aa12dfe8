/** This host's attachments for weftd, and the kernel's events that they may have changed. */

import { socket } from '../../linux/netlink/connection.ts';
import { rtnlgrp } from '../../linux/netlink/events.ts';
import { decodeLink, rtmLink } from '../../linux/netlink/link.ts';
import type { NetlinkMessage } from '../../linux/netlink/wire.ts';
import type { Sys } from '../../linux/sys.ts';
import { type Attachments, openAttachmentReader } from '../../reservations/attachments.ts';
import { isHostVethAlias } from '../../reservations/host-end.ts';
import { type EventSource, KernelEvents } from './events.ts';

const linkEvents: EventSource = { protocol: socket.NETLINK_ROUTE, groups: [rtnlgrp.RTNLGRP_LINK] };
const retryDelayMs = 1000;

const isOfHostEnd = ({ type, body }: NetlinkMessage): boolean =>
  (type === rtmLink.RTM_NEWLINK || type === rtmLink.RTM_DELLINK) && isHostVethAlias(decodeLink(body).alias ?? '');

/** @param dataDir the plugins' folder of reservations */
export const openAttachments = (sys: Sys, dataDir: string): Attachments => ({
  ...openAttachmentReader(sys, dataDir),
  watch(onChange) {
    const events = new KernelEvents(sys, linkEvents, retryDelayMs);
    events.start({
      isRelevant: isOfHostEnd,
      onEvent: onChange,
      // Without events, changes go unnoticed. The stream reopens itself, and then calls back.
      onProblem: () => {},
    });
    return events;
  },
});
