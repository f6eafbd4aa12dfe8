import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { tableName } from '../../../../daemon/filter/packet-filter.ts';

const test = suite('daemon/filter/packet-filter');

test('a table for each network', () => {
  assert.is(tableName(undefined), 'weft');
  assert.is(tableName('/blue/net work'), 'weft/blue/net_work');
});

test.run();
