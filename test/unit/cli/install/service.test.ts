import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { recordedProgramFolder } from '../../../../cli/install/service.ts';

const test = suite('cli/install/service');

const folderOf = (...paths: string[]): string | undefined =>
  recordedProgramFolder({ files: paths.map((path) => ({ path, sha256: '' })) });

test('the folder of weftd is found among completions and settings of that name, in any order', () => {
  const completion = '/usr/local/share/bash-completion/completions/weftd';
  assert.is(folderOf(completion, '/etc/default/weftd', '/usr/local/bin/weftd'), '/usr/local/bin');
  assert.is(folderOf('/opt/weft/bin/weftd', completion), '/opt/weft/bin');
  assert.is(folderOf(completion, '/etc/default/weftd'), undefined);
});

test.run();
