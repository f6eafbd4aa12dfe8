import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { EtcdMark } from '../../../../cluster/etcd/mark.ts';

const test = suite('cluster/etcd/mark');

test('a later revision of the same etcd has lost nothing', () => {
  const mark = new EtcdMark('14841639068965178418', 0, '99');
  assert.ok(mark.leadsTo(mark));
  assert.ok(mark.leadsTo(new EtcdMark(mark.clusterId, 0, '100')), 'revisions are numbers, not texts');
  assert.not.ok(mark.leadsTo(new EtcdMark(mark.clusterId, 0, '98')), 'it has gone back');
  assert.not.ok(mark.leadsTo(new EtcdMark(mark.clusterId, 1, '100')), 'it was found to be another one');
  assert.not.ok(mark.leadsTo(new EtcdMark('2', 0, '100')));
});

test('a watch has followed the changes between two points of one memory', () => {
  const [memory, another] = [{}, {}];
  const at = (revision: string, followed?: object) => new EtcdMark('1', 0, revision, followed);
  assert.ok(at('5', memory).isFollowedTo(at('9', memory)));
  assert.not.ok(at('5', memory).isFollowedTo(at('9', another)), 'it has listed in between');
  assert.not.ok(at('9', memory).isFollowedTo(at('5', memory)));
  assert.not.ok(at('5').isFollowedTo(at('9')));
});

test.run();
