/** Values in messages: short, whatever came. */

const limitCharacters = 120;

/** What is too long keeps its beginning and its end, where a cause stands. */
export function shorten(text: string, limit: number): string {
  if (text.length <= limit) return text;
  const tail = Math.floor(limit / 3);
  return `${text.slice(0, limit - tail - 3)}...${text.slice(text.length - tail)}`;
}

/** On one line, whatever was put into it: what ends in a log must not forge another line of it. */
export const oneLine = (text: string): string =>
  text.replace(/\p{Cc}+/gu, (controls) => (controls === '\t' ? ' ' : JSON.stringify(controls).slice(1, -1)));

/** A value of the configuration or the environment, as JSON; an object or a list that is long or deep by its kind. */
export function quote(value: unknown): string {
  if (value === undefined) return 'nothing';
  try {
    const text = JSON.stringify(typeof value === 'string' ? value.slice(0, 4 * limitCharacters) : value);
    if (text.length <= limitCharacters || typeof value !== 'object') return shorten(text, limitCharacters);
  } catch {
    // Nested deeper than the stack is high.
  }
  return Array.isArray(value) ? 'a long list' : 'a large object';
}
