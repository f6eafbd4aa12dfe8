/** Loads the test files that it is given, so that their tests are printed: see list-tests.mjs. */

for (const path of process.argv.slice(2)) await import(path);
// Some files start processes or servers as they are loaded.
process.exit(0);
