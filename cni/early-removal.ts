/**
 * Removes a link without waiting for what the kernel does after it: DEL takes an eighth of the time. When a link has no name
 * any more, it is down and so is its peer: no packet passes by it, and its addresses may be given out again.
 */

import { errno, formatAction, hasCode, NetlinkError, SyscallError } from '../linux/errors.ts';
import { type NetlinkConnection, openNetlink } from '../linux/netlink/connection.ts';
import { DetachedRequest } from '../linux/netlink/detached.ts';
import { deleteLink, getLinkState } from '../linux/netlink/link.ts';
import { clock, type Sys } from '../linux/sys.ts';
import { removeLink } from './links.ts';

/** The other process needs so long to begin. Then this one asks for the link, and waits for the kernel's lock with that. */
const firstWaitMs = 0.1;
const longestWaitMs = 2;
/** As long as a connection waits for an answer. */
const deadlineMs = 15_000;

/**
 * Deletes the link by its index, and returns when it is gone. Where no other process can be made, it does all of it.
 * @returns whether it was there
 * @throws NetlinkError the kernel's reason to refuse
 */
export function removeLinkEarly(sys: Sys, host: NetlinkConnection, index: number): boolean {
  const request = deleteLink({ index });
  const connection = openNetlink(sys);
  try {
    const detached = DetachedRequest.start(sys, connection, request);
    if (!detached) return removeLink(host, { index });
    const deadline = sys.clock_gettime(clock.CLOCK_MONOTONIC) + deadlineMs;
    for (let waitMs = firstWaitMs; ; waitMs = Math.min(waitMs * 1.5, longestWaitMs)) {
      const answer = detached.answer(waitMs);
      if (answer === 'done') return true;
      if (answer instanceof NetlinkError) {
        if (hasCode(answer, 'ENODEV', 'ENOENT', 'ESRCH')) return false;
        throw answer;
      }
      if (!host.get(getLinkState({ index }))) return true;
      // Somebody has killed it before it sent anything.
      if (detached.hasEnded && detached.answer(0) === undefined) return removeLink(host, { index });
      if (sys.clock_gettime(clock.CLOCK_MONOTONIC) > deadline) {
        throw new SyscallError(`${formatAction(request.action)}: no answer within ${deadlineMs} ms`, errno.ETIMEDOUT);
      }
    }
  } finally {
    connection.close();
  }
}
