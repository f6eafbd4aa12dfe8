/** SHA-512 (FIPS 180-4). The reference plugins use it for names in the packet filter. */

/** The first 64 bits of the fractional parts of the cube roots of the first 80 primes, high and low halves in turn. */
const roundConstants = Uint32Array.from(
  (
    '428a2f98d728ae22 7137449123ef65cd b5c0fbcfec4d3b2f e9b5dba58189dbbc 3956c25bf348b538 59f111f1b605d019 ' +
    '923f82a4af194f9b ab1c5ed5da6d8118 d807aa98a3030242 12835b0145706fbe 243185be4ee4b28c 550c7dc3d5ffb4e2 ' +
    '72be5d74f27b896f 80deb1fe3b1696b1 9bdc06a725c71235 c19bf174cf692694 e49b69c19ef14ad2 efbe4786384f25e3 ' +
    '0fc19dc68b8cd5b5 240ca1cc77ac9c65 2de92c6f592b0275 4a7484aa6ea6e483 5cb0a9dcbd41fbd4 76f988da831153b5 ' +
    '983e5152ee66dfab a831c66d2db43210 b00327c898fb213f bf597fc7beef0ee4 c6e00bf33da88fc2 d5a79147930aa725 ' +
    '06ca6351e003826f 142929670a0e6e70 27b70a8546d22ffc 2e1b21385c26c926 4d2c6dfc5ac42aed 53380d139d95b3df ' +
    '650a73548baf63de 766a0abb3c77b2a8 81c2c92e47edaee6 92722c851482353b a2bfe8a14cf10364 a81a664bbc423001 ' +
    'c24b8b70d0f89791 c76c51a30654be30 d192e819d6ef5218 d69906245565a910 f40e35855771202a 106aa07032bbd1b8 ' +
    '19a4c116b8d2d0c8 1e376c085141ab53 2748774cdf8eeb99 34b0bcb5e19b48a8 391c0cb3c5c95a63 4ed8aa4ae3418acb ' +
    '5b9cca4f7763e373 682e6ff3d6b2b8a3 748f82ee5defb2fc 78a5636f43172f60 84c87814a1f0ab72 8cc702081a6439ec ' +
    '90befffa23631e28 a4506cebde82bde9 bef9a3f7b2c67915 c67178f2e372532b ca273eceea26619c d186b8c721c0c207 ' +
    'eada7dd6cde0eb1e f57d4f7fee6ed178 06f067aa72176fba 0a637dc5a2c898a6 113f9804bef90dae 1b710b35131c471b ' +
    '28db77f523047d84 32caab7b40c72493 3c9ebe0a15c9bebc 431d67c49c100d4c 4cc5d4becb3e42b6 597f299cfc657e2a ' +
    '5fcb6fab3ad6faec 6c44198c4a475817'
  )
    .split(' ')
    .flatMap((word) => [Number.parseInt(word.slice(0, 8), 16), Number.parseInt(word.slice(8), 16)]),
);

/** Of the square roots of the first eight primes. */
const initialState = [
  0x6a09e667, 0xf3bcc908, 0xbb67ae85, 0x84caa73b, 0x3c6ef372, 0xfe94f82b, 0xa54ff53a, 0x5f1d36f1, 0x510e527f,
  0xade682d1, 0x9b05688c, 0x2b3e6c1f, 0x1f83d9ab, 0xfb41bd6b, 0x5be0cd19, 0x137e2179,
] as const;

const blockBytes = 128;
const rounds = 80;

/** The first half of (high, low) rotated right by `count` (1 to 63, not 32). Swap the arguments for the other half. */
const rotated = (high: number, low: number, count: number): number =>
  count < 32 ? (high >>> count) | (low << (32 - count)) : (low >>> (count - 32)) | (high << (64 - count));

/** Message words, halves in turn. */
const words = new Uint32Array(2 * rounds);

function compress(state: Uint32Array, block: DataView, offset: number): void {
  const w = words;
  for (let i = 0; i < 32; i++) w[i] = block.getUint32(offset + 4 * i);
  for (let i = 32; i < 2 * rounds; i += 2) {
    const [ah, al] = [w[i - 30]!, w[i - 29]!];
    const [bh, bl] = [w[i - 4]!, w[i - 3]!];
    const low =
      ((rotated(al, ah, 1) ^ rotated(al, ah, 8) ^ ((al >>> 7) | (ah << 25))) >>> 0) +
      ((rotated(bl, bh, 19) ^ rotated(bl, bh, 61) ^ ((bl >>> 6) | (bh << 26))) >>> 0) +
      w[i - 13]! +
      w[i - 31]!;
    w[i + 1] = low;
    w[i] =
      (rotated(ah, al, 1) ^ rotated(ah, al, 8) ^ (ah >>> 7)) +
      (rotated(bh, bl, 19) ^ rotated(bh, bl, 61) ^ (bh >>> 6)) +
      w[i - 14]! +
      w[i - 32]! +
      Math.floor(low / 2 ** 32);
  }
  /** a to h, halves in turn. */
  const s = Uint32Array.from(state);
  for (let i = 0; i < 2 * rounds; i += 2) {
    const [ah, al, bh, bl, ch, cl] = s as unknown as [number, number, number, number, number, number];
    const [eh, el, fh, fl, gh, gl] = s.subarray(8) as unknown as [number, number, number, number, number, number];
    const low1 =
      s[15]! +
      ((rotated(el, eh, 14) ^ rotated(el, eh, 18) ^ rotated(el, eh, 41)) >>> 0) +
      (((el & fl) ^ (~el & gl)) >>> 0) +
      roundConstants[i + 1]! +
      w[i + 1]!;
    const high1 =
      s[14]! +
      ((rotated(eh, el, 14) ^ rotated(eh, el, 18) ^ rotated(eh, el, 41)) >>> 0) +
      (((eh & fh) ^ (~eh & gh)) >>> 0) +
      roundConstants[i]! +
      w[i]! +
      Math.floor(low1 / 2 ** 32);
    const low2 =
      ((rotated(al, ah, 28) ^ rotated(al, ah, 34) ^ rotated(al, ah, 39)) >>> 0) +
      (((al & bl) ^ (al & cl) ^ (bl & cl)) >>> 0);
    const high2 =
      ((rotated(ah, al, 28) ^ rotated(ah, al, 34) ^ rotated(ah, al, 39)) >>> 0) +
      (((ah & bh) ^ (ah & ch) ^ (bh & ch)) >>> 0);
    const [dh, dl] = [s[6]!, s[7]!];
    s.copyWithin(2, 0, 14);
    const lowE = dl + (low1 >>> 0);
    s[9] = lowE;
    s[8] = dh + high1 + Math.floor(lowE / 2 ** 32);
    const lowA = (low1 >>> 0) + low2;
    s[1] = lowA;
    s[0] = high1 + high2 + Math.floor(lowA / 2 ** 32);
  }
  for (let i = 0; i < 16; i += 2) {
    const low = state[i + 1]! + s[i + 1]!;
    state[i] = state[i]! + s[i]! + Math.floor(low / 2 ** 32);
    state[i + 1] = low;
  }
}

/** The digest as 128 hex digits. */
export function sha512(bytes: Uint8Array): string {
  // The message, a one bit, zeros, and its length in bits, in 128 bits.
  const padded = new Uint8Array(Math.ceil((bytes.length + 17) / blockBytes) * blockBytes);
  padded.set(bytes);
  padded[bytes.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 4, bytes.length * 8);
  const state = Uint32Array.from(initialState);
  for (let at = 0; at < padded.length; at += blockBytes) compress(state, view, at);
  return Array.from(state, (word) => word.toString(16).padStart(8, '0')).join('');
}
