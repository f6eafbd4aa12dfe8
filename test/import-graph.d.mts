export const root: string;
export function circlesOf(graph: ReadonlyMap<string, Iterable<string>>): string[][];
