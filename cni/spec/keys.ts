/**
 * Keys of the configuration are matched without regard to case, as Go's JSON does (containerd's capabilities arrive
 * as `HostPort`, `Servers`). They are renamed once, to the spelling that the rest of the code uses.
 */

/** Known keys in their canonical spelling, with the keys of what they hold: `{}` where that does not matter. */
export interface KeyTable {
  readonly [key: string]: KeyTable;
}

/**
 * The value of `key` in `object`, in whatever case it is written; an exact spelling goes first. What is null is not
 * there: the answer is that which `foldKeys` leaves.
 */
export function lookUp(object: Record<string, unknown>, key: string): unknown {
  if (Object.hasOwn(object, key) && object[key] !== null) return object[key];
  const folded = key.toLowerCase();
  const written = Object.keys(object).find(
    (candidate) => candidate.toLowerCase() === folded && object[candidate] !== null,
  );
  return written === undefined ? undefined : object[written];
}

/** No key that is known lies as deep; lists in lists without end are not gone through. */
const depthLimit = 16;

/**
 * Renames the known keys in `value`, in place, as deep as the table goes; lists are gone through. Unknown keys stay
 * as they are. A key whose value is null is removed: Go leaves out what is null.
 */
export function foldKeys(value: unknown, table: KeyTable, depth = 0): void {
  if (typeof value !== 'object' || value === null || depth > depthLimit) return;
  if (Array.isArray(value)) {
    for (const item of value) foldKeys(item, table, depth + 1);
    return;
  }
  const object = value as Record<string, unknown>;
  for (const written of Object.keys(object)) {
    let key = written;
    if (!Object.hasOwn(table, written)) {
      const folded = written.toLowerCase();
      const known = Object.keys(table).find((candidate) => candidate.toLowerCase() === folded);
      if (known === undefined) continue;
      key = known;
      if (!Object.hasOwn(object, known) || object[known] === null) object[known] = object[written];
      delete object[written];
    }
    if (object[key] === null) delete object[key];
    else foldKeys(object[key], table[key]!, depth + 1);
  }
}
