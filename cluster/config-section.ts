/** Reading a section of the network config: keys in any case, values checked, errors that name the key. */

/** The document breaks a rule: the path, the value there, and the rule as the message. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  /** Such as `Backend.VNI`; empty for the document as a whole. */
  readonly path: string;
  /** The value there; undefined if there is none. */
  readonly value: unknown;

  constructor(path: string, value: unknown, rule: string) {
    super(
      path === ''
        ? `Network config: ${rule}`
        : value === undefined
          ? `Network config: "${path}" is missing: ${rule}`
          : `Network config: "${path}" is ${JSON.stringify(value)}: ${rule}`,
    );
    this.path = path;
    this.value = value;
  }
}

/** A JSON object whose keys match in any case; of several matches the last counts, as in Go. */
export class ConfigSection {
  readonly #path: string;
  readonly #values = new Map<string, unknown>();
  readonly #names = new Map<string, string>();

  constructor(path: string, value: object) {
    this.#path = path;
    for (const [key, item] of Object.entries(value)) {
      this.#values.set(key.toLowerCase(), item);
      this.#names.set(key.toLowerCase(), key);
    }
  }

  get(key: string): unknown {
    return this.#values.get(key.toLowerCase()) ?? undefined;
  }

  has(key: string): boolean {
    return this.#values.has(key.toLowerCase());
  }

  names(): string[] {
    return [...this.#names.values()];
  }

  error(key: string, rule: string): ConfigError {
    return new ConfigError(this.#path + key, this.get(key), rule);
  }

  boolean(key: string, byDefault: boolean): boolean {
    const value = this.get(key);
    if (value === undefined) return byDefault;
    if (typeof value !== 'boolean') throw this.error(key, 'it must be true or false');
    return value;
  }

  integer(key: string, lowest: number, highest: number): number | undefined {
    const value = this.get(key);
    if (value === undefined) return undefined;
    if (typeof value !== 'number' || !Number.isInteger(value) || value < lowest || value > highest) {
      throw this.error(key, `it must be a whole number from ${lowest} to ${highest}`);
    }
    return value;
  }

  text(key: string, what: string): string | undefined {
    const value = this.get(key);
    if (value === undefined) return undefined;
    if (typeof value !== 'string') throw this.error(key, `it must be ${what}, as a string`);
    return value;
  }
}
