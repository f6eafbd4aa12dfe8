import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { formatVersions, isAtLeast, supportedVersions } from '../../../../cni/spec/versions.ts';

const test = suite('cni/spec/versions');

test('versions are ordered', () => {
  assert.is(isAtLeast('0.4.0', '0.4.0'), true);
  assert.is(isAtLeast('0.3.1', '0.4.0'), false);
  assert.is(isAtLeast('1.10.0', '1.1.0'), true);
  assert.is(isAtLeast('1', '1.1.0'), false);
  for (const text of ['asdf', '', '1.1.0.0', '1.x', '-1.0.0']) assert.is(isAtLeast(text, '0.4.0'), undefined, text);
});

test('VERSION echoes the given version, and works without one', () => {
  const answer = (request: string) => JSON.parse(formatVersions(request));
  assert.equal(answer('{"cniVersion":"0.4.0"}'), { cniVersion: '0.4.0', supportedVersions: [...supportedVersions] });
  for (const request of ['', 'garbage', 'null', '[]', '{}', '{"cniVersion":4}', '{"cniVersion":""}']) {
    assert.is(answer(request).cniVersion, '1.1.0', request);
  }
});

test.run();
