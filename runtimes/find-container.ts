/** Finds the container that a person means: by the number of a process, or by a name or id that a runtime knows. */

import type { Sys } from '../linux/sys.ts';
import { type Container, isContainerWord, type Runtime, RuntimeError } from './container.ts';

/** No kernel gives a process a larger number (PID_MAX_LIMIT). Longer digits are the beginning of an id. */
const mostPid = 4_194_304;

const prefixPattern = /^(pid|docker|podman|cri):(.*)$/s;

const processContainer = (pid: number): Container => ({ runtime: 'pid', id: '', name: '', pid });

/**
 * @param word `1234`, `web`, `5f2c…`, or with the runtime before it: `docker:web`, `pid:1234`
 * @throws RuntimeError: there is none, or several
 */
export async function findContainer(sys: Sys, runtimes: readonly Runtime[], word: string): Promise<Container> {
  const [, kind, rest] = prefixPattern.exec(word) ?? [];
  const name = rest ?? word;
  const isNumber = /^[1-9][0-9]{0,6}$/.test(name) && Number(name) <= mostPid;
  if (kind === 'pid' || (kind === undefined && isNumber)) {
    if (!isNumber || typeof sys.stat(`/proc/${name}/ns/net`) === 'number') {
      throw new RuntimeError(`There is no process ${JSON.stringify(name)}`);
    }
    return processContainer(Number(name));
  }
  if (!isContainerWord(name)) {
    throw new RuntimeError(`${JSON.stringify(name)} is neither a process's number nor a container's name or id`);
  }
  const asked = runtimes.filter((runtime) => kind === undefined || runtime.kind === kind);
  if (asked.length === 0) {
    const which = kind === undefined ? 'no container runtime' : `no "${kind}"`;
    throw new RuntimeError(
      `There is ${which} on this host to ask for ${JSON.stringify(name)}; give a process's number`,
    );
  }
  const failures: string[] = [];
  const found: Container[] = [];
  for (const runtime of asked) {
    try {
      const container = await runtime.find(name);
      if (container) found.push(container);
    } catch (error) {
      if (!(error instanceof RuntimeError)) throw error;
      failures.push(error.message);
    }
  }
  const [first, second] = found;
  if (first && second) {
    const words = found.map(({ runtime }) => `${runtime}:${name}`).join(', ');
    throw new RuntimeError(`Several runtimes have a container ${JSON.stringify(name)}: say which, as one of ${words}`);
  }
  if (first) return first;
  const titles = asked.map(({ title }) => title).join(', ');
  throw new RuntimeError(
    failures.length > 0 ? failures.join('; ') : `There is no container ${JSON.stringify(name)}; asked: ${titles}`,
  );
}
