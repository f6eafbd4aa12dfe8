/** Part → its test files; undefined for all of them. */
export function partsReachedBy(changed: readonly string[]): Map<string, string[] | undefined>;
