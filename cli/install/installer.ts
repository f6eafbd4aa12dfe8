/** Puts files on the host, one line each, and records them. Nothing happens with `--dry-run` but the lines. */

import { renameSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { printable } from '../../command/printable.ts';
import { CliError, type CliHost } from '../host.ts';
import { ensureFolder, fileError, kindOf, Placing, putFile, readBytes, syncFolder } from './files.ts';
import { isOwn } from './plugins.ts';
import { emptyRecord, Recorder, readRecord, savedFolder } from './record.ts';
import type { Root } from './rooted.ts';

const largestFile = 1024 * 1024 * 1024;
const executable = 0o755;

export class Installer {
  readonly root: Root;
  readonly host: CliHost;
  readonly dryRun: boolean;
  readonly recorder: Recorder;
  /** Whether an earlier installation is being upgraded. */
  readonly isUpgrade: boolean;

  constructor(host: CliHost, root: Root, dryRun: boolean) {
    this.host = host;
    this.root = root;
    this.dryRun = dryRun;
    const record = readRecord(root);
    this.isUpgrade = record !== undefined;
    this.recorder = new Recorder(root, host, record ?? emptyRecord(host.version));
  }

  /** One line for the person. */
  tell(line: string): void {
    this.host.stdout(`${printable(line)}\n`);
  }

  /** `put x`, or `would put x`. */
  did(done: string, planned: string): void {
    this.tell(this.dryRun ? `would ${planned}` : done);
  }

  /** A note of what is about to be done. */
  record(change: Parameters<Recorder['update']>[0]): void {
    if (!this.dryRun) this.recorder.update(change);
  }

  ensureFolder(path: string): void {
    if (this.dryRun) return;
    const made = ensureFolder(this.root.folder(path));
    this.recorder.addFolders(made.map((folder) => this.root.told(folder)));
  }

  /**
   * Puts a text at a path.
   * @returns whether the file is another now
   * @throws CliError
   */
  putText(path: string, text: string, mode = 0o644): boolean {
    return this.#put(path, Buffer.from(text), mode, (target, bytes) => putFile(target, bytes, mode, this.host));
  }

  /** Copies a file. @returns whether the file at `path` is another now */
  copy(path: string, source: string, mode = 0o644): boolean {
    const bytes = readBytes(source, largestFile);
    if (!bytes) throw new CliError(`Cannot read "${source}": it is not there`);
    return this.#put(path, bytes, mode, (target) => putFile(target, bytes, mode, this.host));
  }

  /** An executable with further names beside it. @returns whether one of them is another now */
  putProgram(path: string, source: string, names: readonly string[]): boolean {
    const bytes = readBytes(source, largestFile);
    if (!bytes) throw new CliError(`Cannot read "${source}": it is not there`);
    const folder = dirname(path);
    const paths = [path, ...names.map((name) => join(folder, name))];
    const changed = paths.filter((each) => !this.#isSame(each, bytes, executable));
    if (changed.length === 0) {
      this.tell(`${path}: already this version`);
      return false;
    }
    this.did(`put ${path} (also as ${names.join(', ')})`, `put ${path} (also as ${names.join(', ')})`);
    if (this.dryRun) return true;
    this.ensureFolder(folder);
    for (const each of changed) this.#prepare(each, bytes);
    const target = this.root.folder(folder);
    const placing = new Placing(target, this.host);
    try {
      placing.addBytes(basename(path), bytes, executable);
      for (const name of names) placing.addLink(name, basename(path), executable);
      placing.finish();
    } finally {
      placing.abandon();
    }
    return true;
  }

  /** Writes down plugins that are about to be put, and saves others' files in their places. */
  notePlugins(folder: string, names: readonly string[], sourceOf: (name: string) => string): void {
    if (this.dryRun) return;
    this.ensureFolder(folder);
    for (const name of names) {
      const bytes = readBytes(sourceOf(name), largestFile);
      if (bytes) this.#prepare(join(folder, name), bytes);
    }
  }

  /** Sets a file aside. */
  setAside(from: string, to: string): void {
    this.did(`set ${from} aside as ${basename(to)}`, `set ${from} aside as ${basename(to)}`);
    if (this.dryRun) return;
    const { moved } = this.recorder.current;
    this.record({ moved: [...moved.filter((each) => each.from !== from), { from, to }] });
    try {
      renameSync(this.root.at(from), this.root.at(to));
      syncFolder(dirname(this.root.at(from)));
    } catch (error) {
      throw fileError('set aside', from, error);
    }
  }

  #isSame(path: string, bytes: Uint8Array, mode: number): boolean {
    const target = this.root.at(path);
    if (kindOf(target) !== 'file') return false;
    const status = statSync(target);
    return (
      status.size === bytes.length &&
      (status.mode & 0o777) === mode &&
      readBytes(target, largestFile)?.equals(bytes) === true
    );
  }

  #put(path: string, bytes: Uint8Array, mode: number, put: (target: string, bytes: Uint8Array) => void): boolean {
    if (this.#isSame(path, bytes, mode)) return false;
    this.did(`put ${path}`, `put ${path}`);
    if (this.dryRun) return true;
    this.ensureFolder(dirname(path));
    this.#prepare(path, bytes);
    put(join(this.root.folder(dirname(path)), basename(path)), bytes);
    return true;
  }

  /** Keeps the content of another's file, and writes down ours. @throws CliError */
  #prepare(path: string, bytes: Uint8Array): void {
    const target = join(this.root.folder(dirname(path)), basename(path));
    const kind = kindOf(target);
    if (kind === 'folder' || kind === 'other') {
      throw new CliError(`Cannot put "${path}": something that is no file has that name`);
    }
    const { recorder } = this;
    const isOthers = kind !== 'missing' && !recorder.has(path) && !isOwn(target);
    const old = isOthers ? readBytes(target, largestFile) : undefined;
    if (old && !recorder.current.saved.some((saved) => saved.path === path)) {
      const copy = join(savedFolder, `${recorder.current.saved.length}-${basename(path)}`);
      this.ensureFolder(savedFolder);
      putFile(this.root.at(copy), old, 0o600, this.host);
      const mode = statSync(target).mode & 0o777;
      recorder.update({ saved: [...recorder.current.saved, { path, copy, mode }] });
    }
    recorder.addFile(path, bytes);
  }
}
