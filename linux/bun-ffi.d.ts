/** The few names of Bun's own modules that `sys-bun.ts` uses (bun.sh/docs/api/ffi). */
declare module 'bun:ffi' {
  /** A C type by Bun's name for it. */
  export type FfiType = 'i32' | 'i64' | 'u64' | 'ptr' | 'void';
  export interface Signature {
    readonly args: readonly FfiType[];
    readonly returns: FfiType;
  }
  /** An address as a number: what `ptr` returns and a C function takes; null is the null pointer. */
  export type Pointer = number & { readonly __pointer: unique symbol };
  export function dlopen<S extends Record<string, Signature>>(
    path: string,
    symbols: S,
  ): { readonly symbols: { readonly [K in keyof S]: (...args: (number | Pointer | null)[]) => number } };
  /** Address of a buffer's byte at `byteOffset`. The caller keeps the buffer alive. */
  export function ptr(buffer: ArrayBuffer | ArrayBufferView, byteOffset?: number): Pointer;
  export const read: { i32(address: number, byteOffset: number): number };
}
