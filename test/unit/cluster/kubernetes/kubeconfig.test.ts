import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { KubeconfigError, parseKubeconfig } from '../../../../cluster/kubernetes/kubeconfig.ts';

const test = suite('cluster/kubernetes/kubeconfig');

const yaml = (user: string, cluster = 'server: https://10.0.0.1:6443/'): string => `
apiVersion: v1
kind: Config
current-context: here
contexts:
- context:
    cluster: lab
    user: weft
  name: here
clusters:
- name: other
  cluster: {server: "https://192.0.2.1"}
- cluster:
    ${cluster}
    certificate-authority: pki/ca.crt
  name: lab
users:
- name: weft
  user:
    ${user}
`;

test('a YAML file of a pod: paths are relative to the file, and the token file comes before the token', () => {
  assert.equal(parseKubeconfig(yaml('token: abc\n    tokenFile: /var/run/token'), '/etc/weft'), {
    server: 'https://10.0.0.1:6443',
    ca: { path: '/etc/weft/pki/ca.crt' },
    token: { path: '/var/run/token' },
    isInsecure: false,
  });
});

test('a JSON file with certificates in it', () => {
  const data = (text: string): string => Buffer.from(text).toString('base64');
  const document = {
    kind: 'Config',
    'current-context': 'c',
    contexts: [{ name: 'c', context: { cluster: 'c', user: 'u' } }],
    clusters: [{ name: 'c', cluster: { server: 'https://k', 'certificate-authority-data': data('CA') } }],
    users: [{ name: 'u', user: { 'client-certificate-data': data('CERT'), 'client-key-data': data('KEY') } }],
  };
  assert.equal(parseKubeconfig(JSON.stringify(document), '/'), {
    server: 'https://k',
    ca: { text: 'CA' },
    certificate: { text: 'CERT' },
    key: { text: 'KEY' },
    isInsecure: false,
  });
});

test('files that cannot be used are told by their fault', () => {
  const cases: readonly [text: string, fault: RegExp][] = [
    ['{', /neither JSON nor YAML/],
    ['a: [', /neither JSON nor YAML/],
    ['kind: Pod', /no kubeconfig/],
    ['kind: Config', /no "current-context"/],
    ['kind: Config\ncurrent-context: x', /there is no "x" in its "contexts"/],
    [yaml('exec: {command: aws}'), /user "weft" has "exec", which weftd does not run; give a token/],
    [yaml('token: 7'), /"token" must be a string/],
    [yaml('token: a', 'server: 10.0.0.1'), /cluster "lab" has no "server" URL/],
    [yaml('token: a', 'proxy-url: http://p\n    server: https://k'), /"proxy-url", which weftd does not use/],
  ];
  for (const [text, fault] of cases) {
    assert.throws(
      () => parseKubeconfig(text, '/'),
      (error: Error) => error instanceof KubeconfigError && fault.test(error.message),
      text,
    );
  }
});

test.run();
