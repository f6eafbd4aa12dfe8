/** Turns a JSON Schema validator's result into one clear error: the rule, the place, the value. */

import { CniError, errorCodes } from './errors.ts';
import { quote } from './text.ts';

/** An error of ajv's generated code. */
export interface ValidationError {
  /** JSON pointer: `/ipam/ranges/0`. */
  readonly instancePath: string;
  readonly keyword: string;
  readonly params: Readonly<Record<string, unknown>>;
}

/** A validator that ajv generated from a schema when Weft was built. */
export interface Validate {
  (value: unknown): boolean;
  errors?: readonly ValidationError[] | null;
}

const typeNames: Readonly<Record<string, string>> = {
  object: 'an object',
  array: 'a list',
  string: 'a string',
  boolean: 'true or false',
  integer: 'a whole number',
  number: 'a number',
};

/** `/ipam/ranges/0/subnet` → `ipam.ranges[0].subnet` */
const formatPath = (pointer: string): string =>
  pointer
    .split('/')
    .slice(1)
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'))
    .map((part, i) => (/^[0-9]+$/.test(part) ? `[${part}]` : i === 0 ? part : `.${part}`))
    .join('');

function valueAt(value: unknown, pointer: string): unknown {
  let at = value;
  for (const part of pointer.split('/').slice(1)) at = (at as Record<string, unknown>)[part];
  return at;
}

function describeRule({ keyword, params }: ValidationError): string {
  switch (keyword) {
    case 'type':
      return `must be ${typeNames[String(params['type'])] ?? String(params['type'])}`;
    case 'required':
      return `needs a "${String(params['missingProperty'])}"`;
    case 'minimum':
      return `must be ${String(params['limit'])} or more`;
    case 'maximum':
      return `must be ${String(params['limit'])} or less`;
    case 'minItems':
      return 'must not be empty';
    case 'enum':
      return `must be one of ${JSON.stringify(params['allowedValues'])}`;
    default:
      return `breaks the rule "${keyword}"`;
  }
}

/** @throws CniError 7 for the first wrong key */
export function checkConfiguration(configuration: unknown, validate: Validate): void {
  if (validate(configuration)) return;
  const error = validate.errors?.[0];
  if (!error) throw new CniError(errorCodes.invalidConfiguration, 'The network configuration is not valid');
  const path = formatPath(error.instancePath);
  const value = quote(valueAt(configuration, error.instancePath));
  throw new CniError(
    errorCodes.invalidConfiguration,
    `The network configuration's ${path ? `"${path}"` : 'top level'} ${describeRule(error)}, but is ${value}`,
    { details: `${error.instancePath || '/'}: ${error.keyword}` },
  );
}
