/** Validators that the build makes of JSON Schemas (build/schema.mjs). */
declare module '*.schema.json?validator' {
  const validate: import('./validation.ts').Validate;
  export default validate;
}
