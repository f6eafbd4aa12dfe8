/** What the build makes of a JSON schema imported by the name `./x.schema.json?validator` (build/schema.mjs). */
declare module '*?validator' {
  /** ajv's ErrorObject. */
  export interface ValidationError {
    /** JSON pointer to the value at fault, '' for the whole. */
    readonly instancePath: string;
    readonly schemaPath: string;
    readonly keyword: string;
    readonly params: Readonly<Record<string, unknown>>;
    readonly message?: string;
  }
  /** Whether `value` fits the schema; where not, `errors` has the first reason until the next call. */
  const validate: { (value: unknown): boolean; errors?: readonly ValidationError[] | null };
  export default validate;
}
