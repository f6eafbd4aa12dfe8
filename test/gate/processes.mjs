/** Runs programs to their end, each in a process group of its own, so that a hung one goes with everything it started. */

import { spawn } from 'node:child_process';
import { root } from '../import-graph.mjs';

/** Nothing here takes this long unless it hangs. */
const limitMs = 20 * 60 * 1000;
/** A test process that is told to end removes what it has made; then its group is killed. */
const graceMs = 10_000;

/** @type {Set<import('node:child_process').ChildProcess>} */
const running = new Set();

function signalGroup(child, signal) {
  try {
    process.kill(-child.pid, signal);
  } catch {
    // Every process of the group has ended.
  }
}

let isEnding = false;

/** When the gate is interrupted it starts nothing more, and ends every program that still runs. */
export function endWithThisProcess() {
  for (const [signal, status] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ]) {
    process.on(signal, () => {
      isEnding = true;
      for (const child of running) signalGroup(child, 'SIGTERM');
      const end = () => {
        for (const child of running) signalGroup(child, 'SIGKILL');
        process.exit(status);
      };
      setInterval(() => running.size === 0 && end(), 50);
      setTimeout(end, graceMs);
    });
  }
}

/**
 * Runs a program to its end; its standard output and error come as they were written.
 * @param {import('node:child_process').SpawnOptions & { longestMs?: number; name?: string }} [options]
 * @returns {Promise<{ ok: boolean; output: string }>}
 */
export function run(program, args, { longestMs = limitMs, name = program, ...options } = {}) {
  if (isEnding) return new Promise(() => {});
  return new Promise((resolve) => {
    const child = spawn(program, args, { cwd: root, detached: true, stdio: ['ignore', 'pipe', 'pipe'], ...options });
    running.add(child);
    let output = '';
    let isHung = false;
    let killTimer;
    const timer = setTimeout(() => {
      isHung = true;
      output += `\n${name} hangs: it was ended after ${longestMs / 1000} s\n`;
      child.kill('SIGTERM');
      killTimer = setTimeout(() => signalGroup(child, 'SIGKILL'), graceMs);
    }, longestMs);
    const finish = (ok, told = output) => {
      running.delete(child);
      clearTimeout(timer);
      clearTimeout(killTimer);
      if (!isEnding) resolve({ ok, output: told });
    };
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => {
        output += text;
      });
    }
    child.on('error', (error) => finish(false, String(error)));
    // A process that a hung one left behind would hold the output open.
    child.on('exit', () => isHung && signalGroup(child, 'SIGKILL'));
    child.on('close', (status) => finish(status === 0 && !isHung));
  });
}
