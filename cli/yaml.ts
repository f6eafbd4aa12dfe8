/** A JSON value as YAML 1.2, in block style. Texts that YAML could read as something else are quoted as in JSON. */

/** Begins with a letter, and has nothing by which YAML would read more than a text. */
const plainPattern = /^[A-Za-z][A-Za-z0-9_./ -]*$/;
const reserved = /^(?:true|false|yes|no|on|off|null|y|n)$/i;

const isPlain = (text: string): boolean => plainPattern.test(text) && !text.endsWith(' ') && !reserved.test(text);

const scalar = (value: unknown): string =>
  typeof value === 'string' && isPlain(value) ? value : (JSON.stringify(value) ?? 'null');

const isEmpty = (value: object): boolean => Object.keys(value).length === 0;

/** The lines of a value below a key or a dash. */
function linesOf(value: unknown): string[] {
  if (typeof value !== 'object' || value === null) return [scalar(value)];
  if (isEmpty(value)) return [Array.isArray(value) ? '[]' : '{}'];
  if (Array.isArray(value)) {
    return value.flatMap((item) => {
      const [first = '', ...others] = linesOf(item);
      return [`- ${first}`, ...others.map((line) => `  ${line}`)];
    });
  }
  return Object.entries(value)
    .filter(([, inner]) => inner !== undefined)
    .flatMap(([key, inner]) => {
      const lines = linesOf(inner);
      const isBlock = typeof inner === 'object' && inner !== null && !isEmpty(inner);
      return isBlock ? [`${scalar(key)}:`, ...lines.map((line) => `  ${line}`)] : [`${scalar(key)}: ${lines[0]}`];
    });
}

export const formatYaml = (value: unknown): string => `${linesOf(value).join('\n')}\n`;
