/** Why a question over a socket failed, in our words: those of Node, Bun and their parsers mean nothing to a person. */

import { messageOf } from './fault.ts';

const reasons: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nobody listens there',
  ENOENT: 'nobody listens there',
  FailedToOpenSocket: 'nobody listens there',
  EACCES: 'permission denied; run it as root',
  EPERM: 'permission denied; run it as root',
  ECONNRESET: 'the connection ended before the answer',
  EPIPE: 'the connection ended before the answer',
  ERR_STREAM_PREMATURE_CLOSE: 'the connection ended before the answer',
};

export function socketReason(error: unknown): string {
  const { code, message } = error as { code?: unknown; message?: unknown };
  const name = typeof code === 'string' ? code : '';
  if (reasons[name] !== undefined) return reasons[name];
  if (name.startsWith('HPE_') || /^Parse Error/.test(String(message))) return 'its answer is not HTTP';
  if (name.startsWith('ERR_HTTP2') || message === 'Protocol error') return 'its answer is not HTTP/2';
  if (message === 'aborted' || message === 'socket hang up') return 'the connection ended before the answer';
  return /^E[A-Z0-9]+$/.test(name) ? name : messageOf(error);
}
