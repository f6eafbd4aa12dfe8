import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { CniError, errorCodes, formatError, toCniError } from '../../../../cni/spec/errors.ts';
import { NetlinkError, SyscallError } from '../../../../linux/errors.ts';
import { errorTexts } from '../../../support/error-texts.ts';

const test = suite('cni/spec/errors');

test("each error code occurs once, and each of Weft's own has a text", () => {
  const codes = Object.values(errorCodes);
  assert.is(new Set(codes).size, codes.length);
  assert.equal(
    errorTexts.map(([code]) => code).sort(),
    codes.filter((code) => code >= 100 && code < 999),
  );
});

test('errors of lower layers get their codes', () => {
  const codeOf = (error: unknown) => toCniError(error).code;
  assert.is(codeOf(new SyscallError('open "/x"', 2)), errorCodes.systemCallFailed);
  assert.is(codeOf(new SyscallError('open "/x"', 13)), errorCodes.notPermitted);
  assert.is(codeOf(new NetlinkError('add route', 17)), errorCodes.kernelRefused);
  assert.is(codeOf(new NetlinkError('add route', 1)), errorCodes.notPermitted);
  assert.is(codeOf(new RangeError('x')), errorCodes.fault);
  const own = new CniError(errorCodes.noFreeAddress, 'full');
  assert.is(toCniError(own), own);
});

test('the error document has code, msg and details', () => {
  const error = new CniError(103, 'Cannot use the store', { cause: new SyscallError('open "/x"', 28) });
  assert.equal(JSON.parse(formatError(error, '0.4.0')), {
    cniVersion: '0.4.0',
    code: 103,
    msg: 'Cannot use the store',
    details: 'Cannot open "/x": ENOSPC',
  });
});

test.run();
