/** How a verb's answer is written: a table, or a document for programs. */

import type { OptionSpec, ParsedOptions } from '../command/options.ts';
import { UsageError } from '../command/options.ts';
import { printable } from '../command/printable.ts';
import { formatYaml } from './yaml.ts';

export const jsonOption: OptionSpec = {
  name: 'json',
  kind: 'flag',
  help: 'print JSON, for programs',
  commandLineOnly: true,
};

export const outputForms = ['json', 'wide', 'yaml'] as const;
/** table: for people, as wide as the terminal. wide: more columns, of any width. */
export type OutputForm = 'table' | (typeof outputForms)[number];

/** Of verbs that show a table. */
export const outputOptions: readonly OptionSpec[] = [
  {
    name: 'o',
    kind: 'text',
    placeholder: outputForms.join('|'),
    help: 'print a document for programs, or a table of all columns',
    byDefault: 'a table that fits the terminal',
    commandLineOnly: true,
  },
  { ...jsonOption, help: 'the same as -o json' },
];

/** @throws UsageError */
export function outputForm(options: ParsedOptions): OutputForm {
  const text = options.text('o');
  if (text === undefined) return options.flag('json') ? 'json' : 'table';
  const form = outputForms.find((each) => each === text);
  if (form === undefined) throw new UsageError(`"${text}" (-o) is none of ${outputForms.join(', ')}`);
  if (options.flag('json') && form !== 'json') throw new UsageError(`--json and -o ${form} exclude each other`);
  return form;
}

/** @returns undefined if the form is a table */
export function formatDocument(form: OutputForm, document: unknown): string | undefined {
  if (form === 'json') return `${JSON.stringify(document, null, 2)}\n`;
  if (form !== 'yaml') return undefined;
  // Through JSON, so that both say the same.
  const lines = formatYaml(JSON.parse(JSON.stringify(document))).split('\n');
  return lines.map(printable).join('\n');
}
