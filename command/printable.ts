/** Makes foreign text safe for a terminal and for a log. */

/**
 * Escapes control characters. Names and reasons come from the cluster's store, where others write them, and a terminal
 * would obey them. JSON keeps DEL and the C1 controls (ECMA-48); here they are escaped, too.
 */
export const printable = (text: string): string =>
  text.replace(/\p{Cc}/gu, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);
