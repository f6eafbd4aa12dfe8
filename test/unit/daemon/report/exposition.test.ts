import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { Registry } from '../../../../daemon/report/exposition.ts';
import { Metrics } from '../../../../daemon/report/metrics.ts';
import { parseExposition } from '../../../support/exposition.ts';

const test = suite('daemon/report/exposition');

test('counters, gauges and histograms, as Prometheus reads them', () => {
  const registry = new Registry();
  const requests = registry.counter({ name: 'x_requests_total', help: 'Asked.', labels: ['path', 'outcome'] });
  requests.add(1, '/a', 'ok');
  requests.add(2, '/a', 'ok');
  requests.add(0, '/b', 'ok');
  registry.counter({ name: 'x_plain_total', help: 'Without labels it is there from the start.' });
  registry.gauge({ name: 'x_now', help: 'Now.' }).set(-0.5);
  registry.gauge({ name: 'x_unknown', help: 'Not shown.' }).set(undefined);
  const seconds = registry.histogram({ name: 'x_seconds', help: 'Took.' }, [0.01, 0.1]);
  for (const value of [0.001, 0.01, 0.05, 7]) seconds.observe(value);
  assert.is(
    registry.format(),
    `# HELP x_requests_total Asked.
# TYPE x_requests_total counter
x_requests_total{path="/a",outcome="ok"} 3
# HELP x_plain_total Without labels it is there from the start.
# TYPE x_plain_total counter
x_plain_total 0
# HELP x_now Now.
# TYPE x_now gauge
x_now -0.5
# HELP x_seconds Took.
# TYPE x_seconds histogram
x_seconds_bucket{le="0.01"} 2
x_seconds_bucket{le="0.1"} 3
x_seconds_bucket{le="+Inf"} 4
x_seconds_sum 7.061
x_seconds_count 4
`,
  );
  assert.is(seconds.count, 4);
  assert.ok(parseExposition(registry.format()));
});

test('values of labels and helps are escaped', () => {
  const registry = new Registry();
  const value = 'a"b\\c\nd{},=';
  registry.gauge({ name: 'x', help: 'back\\slash\nline', labels: ['l'] }).set(Number.POSITIVE_INFINITY, value);
  assert.match(registry.format(), /^# HELP x back\\\\slash\\nline\n/);
  const [family] = parseExposition(registry.format());
  assert.equal(family?.samples, [{ name: 'x', labels: { l: value }, value: Number.POSITIVE_INFINITY }]);
});

test('a family does not grow for ever', () => {
  const registry = new Registry();
  const counter = registry.counter({ name: 'x_total', help: '', labels: ['l'] });
  for (let i = 0; i < 1000; i++) counter.add(1, `value${i}`);
  const samples = parseExposition(registry.format())[0]!.samples;
  assert.ok(samples.length <= 65, `${samples.length}`);
  assert.is(samples.find(({ labels }) => labels['l'] === 'other')?.value, 936);
});

test("weftd's metrics keep Prometheus' rules for names, and have a value before anything happened", () => {
  const metrics = new Metrics({ version: '1.2.3', runtime: 'bun 1', monotonic: () => 0 });
  for (const { name, type, help } of metrics.descriptions) {
    assert.match(name, /^(weftd|process)_[a-z0-9]+(_[a-z0-9]+)*$/);
    assert.match(help, /^\S.*\.$/, name);
    assert.is(type === 'counter', name.endsWith('_total'), `${name}: a counter, and no other, ends in _total`);
    assert.not.match(name, /_(ms|milliseconds|minutes|kilobytes|mb|count|sum|bucket)(_|$)/, `${name}: base units`);
  }
  const families = parseExposition(metrics.format());
  const build = families.find(({ name }) => name === 'weftd_build_info');
  assert.equal(build?.samples, [
    { name: 'weftd_build_info', labels: { version: '1.2.3', runtime: 'bun 1' }, value: 1 },
  ]);
  const healed = families.find(({ name }) => name === 'weftd_healed_total');
  assert.is(healed?.samples.length, 7);
  assert.ok(healed?.samples.every(({ value }) => value === 0));
});

test.run();
