/** The process behind a `Caller`: makes the calls that it is told to, and says how they ended. */

import { callRaw, type RawCall } from './raw-call.ts';

process.on('message', (call: RawCall) => {
  callRaw(call).then(
    (outcome) => process.send!({ outcome }),
    (error: unknown) => process.send!({ failure: String(error) }),
  );
});
// With the test it ends.
process.on('disconnect', () => process.exit(0));
