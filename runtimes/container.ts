/** A container, as a runtime knows it. */

export interface Container {
  readonly runtime: 'docker' | 'podman' | 'cri' | 'pid';
  readonly id: string;
  /** '' for none. */
  readonly name: string;
  /** A process in its network namespace; undefined if it does not run. */
  readonly pid: number | undefined;
}

/** A runtime that may be on this host. */
export interface Runtime {
  readonly kind: Container['runtime'];
  /** For messages: `Docker`, `Podman`, `containerd`. */
  readonly title: string;
  /** By name, id, or the beginning of an id. @throws RuntimeError: it cannot be asked */
  find(word: string): Promise<Container | undefined>;
  /** All containers and sandboxes, also those that do not run. @throws RuntimeError: it cannot be asked */
  list(): Promise<Container[]>;
}

/** A runtime does not answer, or not as expected. */
export class RuntimeError extends Error {
  override readonly name = 'RuntimeError';
}

/** Names and ids of containers. They become parts of URLs and arguments. */
export const isContainerWord = (word: string): boolean => /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,252}$/.test(word);
