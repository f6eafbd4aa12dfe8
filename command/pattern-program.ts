/**
 * Runs a regular expression on a text in linear time (Thompson's construction): all states advance together, character by
 * character, and each is there once.
 */

/** The pattern is not valid in Go's syntax. */
export class PatternError extends Error {
  override readonly name = 'PatternError';
}

export type CharacterTest = (character: string) => boolean;
export type Edge = 'text-start' | 'text-end' | 'line-start' | 'line-end' | 'word-edge' | 'no-word-edge';

/** What a pattern says, repetitions not yet written out. */
export type PatternNode =
  | { readonly kind: 'character'; readonly test: CharacterTest }
  | { readonly kind: 'edge'; readonly edge: Edge }
  | { readonly kind: 'sequence'; readonly items: readonly PatternNode[] }
  | { readonly kind: 'choice'; readonly items: readonly PatternNode[] }
  | { readonly kind: 'repeat'; readonly item: PatternNode; readonly min: number; readonly max: number };

const isWordCharacter = (character: string | undefined): boolean =>
  character !== undefined && /^[0-9A-Za-z_]$/.test(character);

/** A pattern is an option's text. This bounds what repetitions make of it. */
const maxInstructions = 100_000;

type Instruction =
  | { readonly kind: 'character'; readonly test: CharacterTest }
  | { readonly kind: 'edge'; readonly edge: Edge }
  | { readonly kind: 'jump'; targets: number[] }
  | { readonly kind: 'match' };

function compile(node: PatternNode): Instruction[] {
  const program: Instruction[] = [];
  const add = (instruction: Instruction): number => {
    if (program.length >= maxInstructions) throw new PatternError('error parsing regexp: expression too large');
    return program.push(instruction) - 1;
  };
  const addJump = (): number[] => {
    const targets: number[] = [];
    add({ kind: 'jump', targets });
    return targets;
  };
  const emit = (current: PatternNode): void => {
    if (current.kind === 'character' || current.kind === 'edge') add(current);
    else if (current.kind === 'sequence') current.items.forEach(emit);
    else if (current.kind === 'choice') {
      const split = addJump();
      const ends = current.items.map((item) => {
        split.push(program.length);
        emit(item);
        return addJump();
      });
      for (const end of ends) end.push(program.length);
    } else {
      for (let count = 0; count < current.min; count++) emit(current.item);
      if (!Number.isFinite(current.max)) {
        const start = program.length;
        const split = addJump();
        split.push(program.length);
        emit(current.item);
        addJump().push(start);
        split.push(program.length);
        return;
      }
      const splits: number[][] = [];
      for (let count = current.min; count < current.max; count++) {
        const split = addJump();
        split.push(program.length);
        splits.push(split);
        emit(current.item);
      }
      for (const split of splits) split.push(program.length);
    }
  };
  emit(node);
  add({ kind: 'match' });
  return program;
}

const edgeHolds = (edge: Edge, before: string | undefined, after: string | undefined): boolean => {
  switch (edge) {
    case 'text-start':
      return before === undefined;
    case 'text-end':
      return after === undefined;
    case 'line-start':
      return before === undefined || before === '\n';
    case 'line-end':
      return after === undefined || after === '\n';
    case 'word-edge':
      return isWordCharacter(before) !== isWordCharacter(after);
    case 'no-word-edge':
      return isWordCharacter(before) === isWordCharacter(after);
  }
};

/** Whether a text has a match, anywhere. `steps` is called for each step, for a test of the cost. */
export type Pattern = (text: string, onStep?: () => void) => boolean;

/** @throws PatternError if the pattern is too large */
export function compilePattern(pattern: PatternNode): Pattern {
  const program = compile(pattern);
  return (text, onStep) => {
    const characters = [...text];
    let current = new Set<number>();
    for (let at = 0; at <= characters.length; at++) {
      const before = characters[at - 1];
      const after = characters[at];
      // A match may begin at each character. A set keeps each state once, and its order is that of insertion.
      current.add(0);
      const next = new Set<number>();
      for (const index of current) {
        onStep?.();
        const instruction = program[index]!;
        if (instruction.kind === 'match') return true;
        if (instruction.kind === 'jump') for (const target of instruction.targets) current.add(target);
        else if (instruction.kind === 'edge') {
          if (edgeHolds(instruction.edge, before, after)) current.add(index + 1);
        } else if (after !== undefined && instruction.test(after)) next.add(index + 1);
      }
      current = next;
    }
    return false;
  };
}
