/** Assertions on the outcome of a call of a CNI program. */

import * as assert from 'uvu/assert';
import type { Finished } from '../lab/commands.ts';
import type { CniDocument, Outcome } from '../lab/plugin.ts';

const describe = ({ status, signal, stdout, stderr }: Finished): string =>
  `status ${status ?? signal}, stdout ${JSON.stringify(stdout)}, stderr ${JSON.stringify(stderr)}`;

/** Status 0, nothing on stderr, and one document or none. @returns the document, {} where there is none */
export function succeeds(outcome: Outcome): CniDocument {
  assert.is(outcome.status, 0, describe(outcome));
  assert.is(outcome.stderr, '', describe(outcome));
  return outcome.document ?? {};
}

/** One of Weft's own codes. */
export const own = 'own';

/**
 * Status 1 and exactly one error document of this code, with all that such a document carries; never 999.
 * @param codes the codes allowed; `own` for any from 100 to 998
 */
export function fails(outcome: Outcome, codes: number | typeof own | readonly number[], text?: RegExp): CniDocument {
  const said = describe(outcome);
  assert.is(outcome.status, 1, said);
  const { document } = outcome;
  assert.ok(document, said);
  assert.type(document.code, 'number', said);
  assert.type(document.cniVersion, 'string', said);
  assert.type(document.msg, 'string', said);
  assert.type(document.details, 'string', said);
  assert.ok(document.msg!.length > 0, said);
  assert.not.match(document.msg!, /\n|\.$/, said);
  const code = document.code!;
  if (codes === own) assert.ok(code >= 100 && code < 999, `code from 100 to 998 expected: ${said}`);
  else if (typeof codes === 'number') assert.is(code, codes, said);
  else assert.ok(codes.includes(code), `one of the codes ${codes} expected: ${said}`);
  if (text) assert.match(`${document.msg} ${document.details}`, text);
  return document;
}
