/**
 * Text that others write, taken apart in linear time. A regular expression for blanks before a line break looks
 * harmless, and takes seconds for 60,000 blanks without a line break, because it tries again at each of them.
 */

/** The text without this character at its end, however often it stands there. */
export function withoutTrailing(text: string, character: string): string {
  let end = text.length;
  while (end > 0 && text[end - 1] === character) end--;
  return text.slice(0, end);
}

/** A path without the slashes at its end; the root stays. */
export const withoutTrailingSlashes = (path: string): string => withoutTrailing(path, '/') || (path === '' ? '' : '/');

/** Makes one line of several: without the blanks at both ends of each, and without empty ones. */
export function joinLines(text: string, separator: string): string {
  if (!text.includes('\n')) return text;
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
    .join(separator);
}
