/** A thing that a suite's tests share: made before them and removed after them, whatever happens in between. */

interface Hooks {
  before(hook: () => void | Promise<void>): void;
  after(hook: () => void | Promise<void>): void;
}

/**
 * Gives a getter for what `setUp` makes. uvu takes a suite whose `before` fails for one that passed, so a failure is
 * kept and thrown by the getter: every test that needs the fixture fails with it.
 */
export function fixture<T>(
  suite: Hooks,
  setUp: () => T | Promise<T>,
  tearDown: (made: T) => void | Promise<void>,
): () => T {
  let made: { value: T } | undefined;
  let failure: unknown = new Error('The fixture is used outside of its suite');
  suite.before(async () => {
    try {
      made = { value: await setUp() };
    } catch (error) {
      failure = error;
    }
  });
  suite.after(async () => {
    if (!made) return;
    const { value } = made;
    made = undefined;
    try {
      await tearDown(value);
    } catch (error) {
      console.error(error);
      process.exitCode = 1;
    }
  });
  return () => {
    if (!made) throw failure;
    return made.value;
  };
}
