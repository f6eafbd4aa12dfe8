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

/** Ends every program that still runs, when the gate itself is interrupted. */
export function endWithThisProcess() {
  for (const [signal, status] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ]) {
    process.on(signal, () => {
      for (const child of running) child.kill('SIGTERM');
      const end = () => {
        for (const child of running) signalGroup(child, 'SIGKILL');
        process.exit(status);
      };
      const timer = setInterval(() => running.size === 0 && end(), 50);
      setTimeout(end, graceMs);
      timer.ref();
    });
  }
}

/**
 * Runs a program to its end; its standard output and error come as they were written.
 * @param {import('node:child_process').SpawnOptions & { longestMs?: number; name?: string }} [options]
 * @returns {Promise<{ ok: boolean; output: string; stdout: string; hung: boolean }>}
 */
export function run(program, args, { longestMs = limitMs, name = program, ...options } = {}) {
  return new Promise((resolve) => {
    const child = spawn(program, args, { cwd: root, detached: true, stdio: ['ignore', 'pipe', 'pipe'], ...options });
    running.add(child);
    let output = '';
    let stdout = '';
    let hung = false;
    let killTimer;
    const timer = setTimeout(() => {
      hung = true;
      output += `\n${name} ran for ${longestMs / 1000} s and was ended\n`;
      child.kill('SIGTERM');
      killTimer = setTimeout(() => signalGroup(child, 'SIGKILL'), graceMs);
    }, longestMs);
    const finish = (result) => {
      running.delete(child);
      clearTimeout(timer);
      clearTimeout(killTimer);
      resolve(result);
    };
    child.stdout.setEncoding('utf8').on('data', (text) => {
      output += text;
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text) => {
      output += text;
    });
    child.on('error', (error) => finish({ ok: false, output: String(error), stdout, hung }));
    // A process that the program left behind would hold its output open for ever.
    child.on('exit', () => hung && signalGroup(child, 'SIGKILL'));
    child.on('close', (status) => finish({ ok: status === 0 && !hung, output, stdout, hung }));
  });
}
