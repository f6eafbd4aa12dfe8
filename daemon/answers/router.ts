/** Finds the route of a request, and applies its limits. */

import { type Answer, type DoorName, type Request, RequestError, type Route } from './route.ts';

const defaultDeadlineMs = 60_000;

/** A limited number at once; the others wait in a queue. */
class Turns {
  #left: number;
  readonly #waiting: (() => void)[] = [];

  constructor(atOnce: number) {
    this.#left = atOnce;
  }

  async take(): Promise<void> {
    if (this.#left > 0) this.#left--;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  give(): void {
    const next = this.#waiting.shift();
    if (next) next();
    else this.#left++;
  }
}

interface Entry {
  readonly route: Route;
  readonly turns: Turns;
}

const keyOf = (method: string, path: string): string => `${method} ${path}`;

export class Router {
  readonly #entries: ReadonlyMap<string, Entry>;

  /** @param door routes of other doors are ignored */
  constructor(routes: readonly Route[], door: DoorName) {
    const entries = new Map<string, Entry>();
    for (const route of routes) {
      const { method, path, on = ['socket'], maxConcurrent = Number.POSITIVE_INFINITY } = route;
      if (!on.includes(door)) continue;
      const key = keyOf(method, path);
      if (entries.has(key)) throw new RangeError(`Two routes for "${key}"`);
      entries.set(key, { route, turns: new Turns(maxConcurrent) });
    }
    this.#entries = entries;
  }

  get routes(): readonly Route[] {
    return [...this.#entries.values()].map(({ route }) => route);
  }

  find(method: string, path: string): Route | undefined {
    return this.#entries.get(keyOf(method, path))?.route;
  }

  /** @param route found by `find` */
  async answer(route: Route, request: Request): Promise<Answer> {
    const { turns } = this.#entries.get(keyOf(route.method, route.path))!;
    const { deadlineMs = defaultDeadlineMs } = route;
    let isLate = false;
    const work = async (): Promise<Answer> => {
      await turns.take();
      try {
        if (isLate) throw new RequestError(503, 'Nobody waits any more');
        return await route.handle(request);
      } finally {
        turns.give();
      }
    };
    let timer: ReturnType<typeof setTimeout> | undefined;
    const deadline = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        isLate = true;
        reject(new RequestError(503, `No answer within ${deadlineMs / 1000} s`));
      }, deadlineMs);
    });
    try {
      return await Promise.race([work(), deadline]);
    } finally {
      clearTimeout(timer);
    }
  }
}
