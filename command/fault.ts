/** Errors that no code of ours words: they must not reach a person as the JavaScript engine puts them. */

/** What the engine throws for a mistake in our code. Its words may quote minified source. */
function isEngineError(error: unknown): error is Error {
  if (error instanceof TypeError || error instanceof ReferenceError || error instanceof SyntaxError) return true;
  return error instanceof Error && /\(evaluating '|^Maximum call stack size|^Out of memory/.test(error.message);
}

/** The error's message, or for an engine's error a sentence that quotes nothing. */
export function messageOf(error: unknown): string {
  if (isEngineError(error)) return `a fault of Weft itself (${error.name}); please report it`;
  return error instanceof Error ? error.message : String(error);
}

/** The same error, or for an engine's error another one with our words. */
export const worded = (error: unknown): Error =>
  error instanceof Error && !isEngineError(error) ? error : new Error(messageOf(error), { cause: error });
