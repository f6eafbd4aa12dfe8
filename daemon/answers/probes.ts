/** The routes about weftd itself: `/healthz`, `/readyz` and `/metrics`. The probe port answers these and no others. */

import { expositionContentType } from '../report/exposition.ts';
import { type Answer, type DoorName, type Route, textAnswer } from './route.ts';

export interface ProbeSources {
  /** The task that is stuck; undefined: none is. */
  readonly health: () => string | undefined;
  /** Why it is not ready; undefined: it is. */
  readonly readiness: () => string | undefined;
  /** In Prometheus' text format. */
  readonly metrics: () => Promise<string>;
}

/** How long an answer to the network is cached. */
export const answerAgeMs = 1000;

/**
 * Keeps an answer for `ageMs`, counted from its start; requests in that time get the same answer.
 * @param now milliseconds on a clock that does not go back
 */
export function keepFor(ageMs: number, now: () => number, make: () => Promise<string>): () => Promise<string> {
  let kept: { readonly made: Promise<string>; readonly atMs: number } | undefined;
  return () => {
    if (!kept || now() - kept.atMs >= ageMs) {
      const fresh = { made: make(), atMs: now() };
      kept = fresh;
      fresh.made.catch(() => {
        if (kept === fresh) kept = undefined;
      });
    }
    return kept.made;
  };
}

/** Requests that arrive while an answer is made get the same answer. */
export function shareRunning<T>(make: () => Promise<T>): () => Promise<T> {
  let running: Promise<T> | undefined;
  return () => {
    running ??= make().finally(() => {
      running = undefined;
    });
    return running;
  };
}

const judge = (complaint: string | undefined): Answer =>
  complaint === undefined ? textAnswer(200, 'ok') : textAnswer(503, complaint);

export function probeRoutes({ health, readiness, metrics }: ProbeSources, door: DoorName): Route[] {
  const on = [door];
  return [
    { method: 'GET', path: '/healthz', on, handle: () => judge(health()) },
    { method: 'GET', path: '/readyz', on, handle: () => judge(readiness()) },
    {
      method: 'GET',
      path: '/metrics',
      on,
      handle: async () => ({ status: 200, type: expositionContentType, body: await metrics() }),
    },
  ];
}
