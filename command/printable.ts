/** Text from others that is safe to show on a terminal and to write to a log. */

/**
 * Spells out control characters. Names and reasons come from the cluster's store, where others write them, and a
 * terminal would obey what they say. JSON leaves DEL and the C1 controls (ECMA-48) as they are; here they are escaped, too.
 */
export const printable = (text: string): string =>
  text.replace(/\p{Cc}/gu, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
