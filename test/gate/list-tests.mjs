/**
 * Bun loads this before test files, in place of uvu's own runner: `bun --preload …/list-tests.mjs …/print-tests.mjs FILE…`
 * prints the suite and name of each test, and runs none.
 */

import { plugin } from 'bun';

const nothing = () => undefined;

function suite(name = '') {
  const add = (title) => console.log(`<test>${JSON.stringify([name, title])}`);
  const each = Object.assign(nothing, { each: nothing });
  return Object.assign(add, { before: each, after: each, only: add, skip: nothing, run: nothing });
}

plugin({
  name: 'list tests',
  setup(build) {
    build.module('uvu', () => ({ exports: { suite, test: suite() }, loader: 'object' }));
  },
});
