/** This host's attachments for weftd, with the kernel's word that they may have changed. */

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

/** @param dataDir where the plugins keep the reservations */
export const openAttachments = (sys: Sys, dataDir: string): Attachments => ({
  ...openAttachmentReader(sys, dataDir),
  watch(onChange) {
    const events = new KernelEvents(sys, linkEvents, retryDelayMs);
    events.start({
      isRelevant: isOfHostEnd,
      onEvent: onChange,
      // Without events nothing is known of changes. The stream is opened again, and then calls back by itself.
      onProblem: () => {},
    });
    return events;
  },
});
