/** Foreign text and values in messages: other nodes write them, so that they may be of any size and depth. */

const longest = 200;

/** At most 200 characters of the text, with its length if there are more. */
export const excerpt = (text: string): string =>
  text.length <= longest ? text : `${text.slice(0, longest)}… (${text.length} characters)`;

/** A value as JSON, in at most 200 characters. */
export function excerptOf(value: unknown): string {
  try {
    return excerpt(String(JSON.stringify(value)));
  } catch (error) {
    // JSON.stringify calls itself for each level.
    if (error instanceof RangeError) return 'a value that is nested too deeply to be shown';
    throw error;
  }
}
