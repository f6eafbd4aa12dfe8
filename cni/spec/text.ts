/** Values in messages, always short. */

const limitCharacters = 120;

/** A text that is too long keeps its beginning and its end, where the cause stands. */
export function shorten(text: string, limit: number): string {
  if (text.length <= limit) return text;
  const tail = Math.floor(limit / 3);
  return `${text.slice(0, limit - tail - 3)}...${text.slice(text.length - tail)}`;
}

/** Puts a text on one line, because a value must not forge another line of a log. */
export const oneLine = (text: string): string =>
  text.replace(/\p{Cc}+/gu, (controls) => (controls === '\t' ? ' ' : JSON.stringify(controls).slice(1, -1)));

/** A value of the configuration or the environment, as JSON; a long or deep object or list by its kind. */
export function quote(value: unknown): string {
  if (value === undefined) return 'nothing';
  try {
    const text = JSON.stringify(typeof value === 'string' ? value.slice(0, 4 * limitCharacters) : value);
    if (text.length <= limitCharacters || typeof value !== 'object') return shorten(text, limitCharacters);
  } catch {
    // The value is nested too deeply for the stack.
  }
  return Array.isArray(value) ? 'a long list' : 'a large object';
}
