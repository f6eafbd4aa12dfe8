/**
 * Writes a tar archive (POSIX ustar) that depends on the files' names, modes and contents alone: entries in order, no
 * owner, one time for all. GNU tar could do it, too, but only by options that other tars lack.
 */

const block = 512;

/** @typedef {{ path: string; mode: number; content: Buffer; link?: string }} TarFile link: an earlier path of the archive */

const octal = (number, width) => number.toString(8).padStart(width - 1, '0') + '\0';

/** @param {TarFile} file @param {number} seconds */
function header({ path, mode, content, link }, seconds) {
  const bytes = Buffer.alloc(block);
  const put = (text, at, most) => {
    if (Buffer.byteLength(text) > most) throw new Error(`"${text}" is too long for a tar archive`);
    bytes.write(text, at);
  };
  put(path, 0, 100);
  put(octal(mode, 8), 100, 8);
  put(octal(0, 8), 108, 8);
  put(octal(0, 8), 116, 8);
  put(octal(link === undefined ? content.length : 0, 12), 124, 12);
  put(octal(seconds, 12), 136, 12);
  put(' '.repeat(8), 148, 8);
  put(link === undefined ? (path.endsWith('/') ? '5' : '0') : '1', 156, 1);
  put(link ?? '', 157, 100);
  put('ustar\0' + '00', 257, 8);
  put('root', 265, 32);
  put('root', 297, 32);
  put(
    octal(
      bytes.reduce((sum, byte) => sum + byte, 0),
      7,
    ) + ' ',
    148,
    8,
  );
  return bytes;
}

/** Every folder above these paths, once, unless it is one of them. */
function foldersOf(files) {
  const folders = new Set();
  for (const { path } of files) {
    const parts = path.split('/').slice(0, -1);
    for (let i = 1; i <= parts.length; i++) folders.add(`${parts.slice(0, i).join('/')}/`);
  }
  for (const { path } of files) folders.delete(path);
  return [...folders].map((path) => ({ path, mode: 0o755, content: Buffer.alloc(0) }));
}

/**
 * @param {TarFile[]} files links after the files that they name
 * @param {number} seconds the time of all entries, since the epoch
 * @returns {Buffer[]} the archive in pieces
 */
export function makeTar(files, seconds) {
  const byPath = (a, b) => (a.path < b.path ? -1 : 1);
  const entries = [...foldersOf(files).sort(byPath), ...files];
  const pieces = entries.flatMap((file) => {
    const head = header(file, seconds);
    if (file.link !== undefined || file.content.length === 0) return [head];
    return [head, file.content, Buffer.alloc((block - (file.content.length % block)) % block)];
  });
  return [...pieces, Buffer.alloc(2 * block)];
}
