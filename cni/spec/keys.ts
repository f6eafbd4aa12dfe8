/**
 * Keys of the configuration are matched without regard to case, as Go's JSON does (containerd's capabilities arrive
 * as `HostPort`, `Servers`). They are renamed once, to the spelling that the rest of the code uses.
 */

/** Known keys in their canonical spelling, with the keys of their values; `{}` if those do not matter. */
export interface KeyTable {
  readonly [key: string]: KeyTable;
}

/**
 * The value of `key` in `object`, in any case; the exact spelling comes first. A null value counts as absent, as with
 * `foldKeys`.
 */
export function lookUp(object: Record<string, unknown>, key: string): unknown {
  if (Object.hasOwn(object, key) && object[key] !== null) return object[key];
  const folded = key.toLowerCase();
  const written = Object.keys(object).find(
    (candidate) => candidate.toLowerCase() === folded && object[candidate] !== null,
  );
  return written === undefined ? undefined : object[written];
}

/** No known key lies deeper. This ends the search in deeply nested lists. */
const depthLimit = 16;

const spellings = new Map<KeyTable, ReadonlyMap<string, string>>();

/** The canonical spelling of a key in any case; undefined for an unknown key. */
function canonicalKey(table: KeyTable, written: string): string | undefined {
  let known = spellings.get(table);
  if (!known) {
    known = new Map(Object.keys(table).map((key) => [key.toLowerCase(), key] as const));
    spellings.set(table, known);
  }
  return known.get(written.toLowerCase());
}

/**
 * Renames the known keys in `value`, in place, as deep as the table goes, also in lists. Unknown keys stay unchanged. A
 * key whose value is null is removed, because Go omits null values.
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
      const known = canonicalKey(table, written);
      if (known === undefined) continue;
      key = known;
      if (!Object.hasOwn(object, known) || object[known] === null) object[known] = object[written];
      delete object[written];
    }
    if (object[key] === null) delete object[key];
    else foldKeys(object[key], table[key]!, depth + 1);
  }
}
