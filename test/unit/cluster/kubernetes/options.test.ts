import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { kubernetesOptions, parseKubernetesOptions } from '../../../../cluster/kubernetes/options.ts';
import { parseOptions, UsageError } from '../../../../command/options.ts';

const test = suite('cluster/kubernetes/options');

const parse = (...args: string[]) => parseKubernetesOptions(parseOptions(kubernetesOptions, args, {}));

test("without --kube-subnet-mgr there are none; with it, flannel's defaults", () => {
  assert.is(parse('--kube-api-url', 'https://k'), undefined);
  assert.equal(parse('--kube-subnet-mgr'), {
    annotationPrefix: 'flannel.alpha.coreos.com/',
    netConfigPath: '/etc/kube-flannel/net-conf.json',
    setNetworkUnavailable: true,
  });
});

test("the prefix of annotations gets its separator by flannel's rule", () => {
  const prefixOf = (text: string) => parse('--kube-subnet-mgr', '--kube-annotation-prefix', text)?.annotationPrefix;
  assert.is(prefixOf('example.com'), 'example.com/');
  assert.is(prefixOf('example.com/'), 'example.com/');
  assert.is(prefixOf('example.com/two'), 'example.com/two-');
  assert.is(prefixOf('example.com/two-'), 'example.com/two-');
  for (const wrong of ['a/b/c', 'Example.com', '/x', 'exa mple']) {
    assert.throws(
      () => prefixOf(wrong),
      (error: unknown) => error instanceof UsageError,
      wrong,
    );
  }
});

test('the URL of the API server has to be one', () => {
  const urlOf = (text: string) => parse('--kube-subnet-mgr', '--kube-api-url', text)?.apiUrl;
  assert.is(urlOf('https://10.0.0.1:6443/'), 'https://10.0.0.1:6443');
  assert.is(urlOf('http://[fd00::1]:8080/prefix/'), 'http://[fd00::1]:8080/prefix');
  for (const wrong of ['10.0.0.1:6443', 'ftp://k', 'https://k?x=1', 'https://u@k']) {
    assert.throws(() => urlOf(wrong), /must have the form/, wrong);
  }
});

test.run();
