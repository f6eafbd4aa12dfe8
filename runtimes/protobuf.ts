/** Protocol buffers, as far as the questions to a CRI runtime need them: strings, messages and whole numbers. */

/** Field number → values in their order. A length-delimited one is bytes, a varint a number; others are left out. */
export type Fields = ReadonlyMap<number, readonly (number | Uint8Array)[]>;

export class ProtobufError extends Error {
  override readonly name = 'ProtobufError';
}

const decoder = new TextDecoder();

/** @throws ProtobufError */
export function decodeFields(bytes: Uint8Array): Fields {
  const fields = new Map<number, (number | Uint8Array)[]>();
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let scale = 1; at < bytes.length; scale *= 128) {
      const byte = bytes[at++]!;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
    throw new ProtobufError('A number is cut off');
  };
  const skip = (length: number): Uint8Array => {
    if (length > bytes.length - at) throw new ProtobufError('A field is cut off');
    at += length;
    return bytes.subarray(at - length, at);
  };
  while (at < bytes.length) {
    const tag = varint();
    const number = Math.floor(tag / 8);
    const values = fields.get(number) ?? [];
    fields.set(number, values);
    const type = tag % 8;
    if (type === 0) values.push(varint());
    else if (type === 2) values.push(skip(varint()));
    else if (type === 1) skip(8);
    else if (type === 5) skip(4);
    else throw new ProtobufError(`A field has the unknown type ${type}`);
  }
  return fields;
}

export const messagesOf = (fields: Fields, number: number): Fields[] =>
  (fields.get(number) ?? []).flatMap((value) => (typeof value === 'number' ? [] : decodeFields(value)));

/** '' if it is absent. */
export function textOf(fields: Fields | undefined, number: number): string {
  const value = fields?.get(number)?.at(-1);
  return value instanceof Uint8Array ? decoder.decode(value) : '';
}

/** 0 if it is absent. */
export function numberOf(fields: Fields, number: number): number {
  const value = fields.get(number)?.at(-1);
  return typeof value === 'number' ? value : 0;
}

function encodeVarint(value: number): number[] {
  const bytes: number[] = [];
  for (; value >= 0x80; value = Math.floor(value / 128)) bytes.push((value % 128) + 0x80);
  return [...bytes, value];
}

/** A message of these fields; a true stands for the number 1. */
export function encodeFields(fields: Readonly<Record<number, string | true>>): Uint8Array {
  return Uint8Array.from(
    Object.entries(fields).flatMap(([number, value]) => {
      const key = Number(number) * 8;
      if (value === true) return [...encodeVarint(key), 1];
      const text = new TextEncoder().encode(value);
      return [...encodeVarint(key + 2), ...encodeVarint(text.length), ...text];
    }),
  );
}
