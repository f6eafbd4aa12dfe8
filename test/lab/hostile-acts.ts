/**
 * The writes of an adversary with a node's rights in etcd, drawn from a seed: what it puts, deletes and revokes below
 * `subnets/` and `nodes/`. Pure; `adversary.main.ts` does them.
 */

import { randomStream } from '../support/random.ts';

/** An honest host, as its lease and its record tell everybody. */
export interface Victim {
  readonly node: string;
  /** Of the lease: `10.244.7.0-24`. */
  readonly name: string;
  readonly publicIp: string;
  readonly mac: string;
}

/**
 * `around`: every key but the victims' leases. `deletes`: their leases go, by deletion, by range, by the etcd lease. `spoils`:
 * their leases get a value that nobody can read, or that names nobody. `steals`: they get a value with another host's name and
 * address. `impersonates`: they get one with their own name or address, and something else changed.
 */
export type ActKind = 'around' | 'deletes' | 'spoils' | 'steals' | 'impersonates';

export type Write =
  | { readonly put: Buffer; readonly value: Buffer; readonly life?: 'short' | 'none' }
  | { readonly delete: Buffer; readonly end?: Buffer };

/** One transaction of `writes`, or the end of the etcd lease that a key has. */
export type Act = { readonly label: string } & (
  | { readonly writes: readonly Write[] }
  | { readonly revokeLeaseOf: Buffer }
);

export interface HostileOptions {
  readonly seed: number;
  /** With a slash at its end. */
  readonly prefix: string;
  readonly kinds: readonly ActKind[];
  readonly victims: readonly Victim[];
}

/** An act of each kind comes as often as another's, but "around" fills the rest. */
const shareOfVictims = 0.06;
/** So many keys of its own are there at once, about: the network has 255 subnets. */
const ownKeysAtMost = 120;

export class HostileActs {
  readonly #options: HostileOptions;
  readonly #random: () => number;
  readonly #own: Buffer[] = [];

  constructor(options: HostileOptions) {
    this.#options = options;
    this.#random = randomStream(options.seed);
  }

  next(): Act {
    const kinds = this.#options.kinds.filter((kind) => kind !== 'around');
    if (kinds.length === 0 || this.#random() > shareOfVictims) return this.#around();
    switch (this.#pick(kinds)) {
      case 'deletes':
        return this.#deletes();
      case 'spoils':
        return this.#putOn(this.#victim(), 'spoils', this.#unreadable());
      case 'steals':
        return this.#putOn(this.#victim(), 'steals', this.#lease(this.#stranger()));
      default:
        return this.#impersonates();
    }
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  #pick<T>(values: readonly T[]): T {
    return values[this.#below(values.length)]!;
  }

  #victim(): Victim {
    return this.#pick(this.#options.victims);
  }

  #key(text: string, folder = 'subnets'): Buffer {
    return Buffer.from(`${this.#options.prefix}${folder}/${text}`);
  }

  #putOn({ name }: Victim, label: string, value: Buffer): Act {
    const life = this.#pick(['short', 'none'] as const);
    return { label: `${label} ${name}`, writes: [{ put: this.#key(name), value, life }] };
  }

  #deletes(): Act {
    const { name } = this.#victim();
    const key = this.#key(name);
    switch (this.#below(4)) {
      case 0:
        return { label: `revokes ${name}`, revokeLeaseOf: key };
      case 1: {
        const from = this.#key('');
        const end = Buffer.from(from);
        end[end.length - 1]! += 1;
        return { label: 'deletes all', writes: [{ delete: from, end }] };
      }
      case 2: {
        // In one revision with another lease.
        const own = { put: this.#key(this.#freeName()), value: this.#value() };
        return { label: `deletes ${name} beside a put`, writes: [own, { delete: key }] };
      }
      default:
        return { label: `deletes ${name}`, writes: [{ delete: key }] };
    }
  }

  #stranger(): Omit<Victim, 'name'> {
    return { node: 'stranger', publicIp: this.#address(), mac: this.#mac() };
  }

  #impersonates(): Act {
    const victim = this.#victim();
    const { publicIp, mac } = this.#stranger();
    const changes = this.#pick([{ publicIp }, { mac }, { node: 'stranger' }, { publicIp, mac }]);
    return this.#putOn(victim, 'impersonates', this.#lease({ ...victim, ...changes }));
  }

  #around(): Act {
    if (this.#own.length > ownKeysAtMost || (this.#own.length > 0 && this.#below(4) === 0)) {
      const [key] = this.#own.splice(this.#below(this.#own.length), 1);
      return { label: `takes back ${key!.toString('latin1')}`, writes: [{ delete: key! }] };
    }
    if (this.#below(5) === 0) return this.#record();
    const writes = Array.from({ length: this.#below(8) === 0 ? 3 : 1 }, (): Write => {
      const put = this.#leaseKey();
      this.#own.push(put);
      return { put, value: this.#value(), life: this.#pick(['none', 'none', 'short']) };
    });
    // A transaction must not write a key twice.
    const keys = new Map(
      writes.map((write) => [('put' in write ? write.put : write.delete).toString('latin1'), write]),
    );
    return { label: `puts ${[...keys.keys()].join(' ').slice(0, 300)}`, writes: [...keys.values()] };
  }

  /** A liveness record: a victim's, or anybody's. */
  #record(): Act {
    const { node } = this.#victim();
    const name = this.#pick([node, node, 'x', 'x'.repeat(300), '../../etc', '', `n${this.#below(50)}`]);
    const put = this.#pick([this.#key(name, 'nodes'), Buffer.concat([this.#key('', 'nodes'), this.#noise(9)])]);
    if (this.#below(3) === 0) return { label: `deletes record ${name}`, writes: [{ delete: put }] };
    const record = {
      node: this.#pick([node, 'x', '\u001b[31m', ' '.repeat(6000)]),
      publicIP: this.#pick([this.#address(), this.#victim().publicIp]),
      backend: this.#pick(['vxlan', 7, {}]),
      version: this.#pick(['9.9.9', ' '.repeat(3000), null]),
      started: this.#pick(['2026-01-01T00:00:00Z', '+275760-09-13T00:00:00.000Z', '']),
      health: this.#pick(['ok', ' '.repeat(6000), '\u0000\n\u001b[2J', 'x'.repeat(100_000)]),
    };
    const value = this.#pick([Buffer.from(JSON.stringify(record)), this.#unreadable()]);
    return { label: `puts record ${name.slice(0, 20)}`, writes: [{ put, value, life: 'short' }] };
  }

  /** Never the very key of a victim's. */
  #leaseKey(): Buffer {
    const name = this.#leaseName();
    const isVictims = this.#options.victims.some((victim) => victim.name === name);
    if (isVictims) return this.#key('x');
    return this.#below(12) === 0 ? Buffer.concat([this.#key(name), this.#noise(4)]) : this.#key(name);
  }

  #leaseName(): string {
    const { name } = this.#victim();
    const [, a, b, c] = /^(\d+)\.(\d+)\.(\d+)\./.exec(name)!;
    const third = Number(c);
    const around = [
      `${a}.${b}.${c}.128-25`,
      `${a}.${b}.${c}.0-25`,
      `${a}.${b}.${c}.2-32`,
      `${a}.${b}.${third & 254}.0-23`,
      `${a}.${b}.0.0-16`,
      `${a}.${b}.${third & 192}.0-18`,
      // Other spellings of the same subnet.
      `0${a}.${b}.${c}.0-24`,
      `${a}.${b}.${c}.0-024`,
      `${a}.${b}.${c}.1-24`,
      `${a}.${b}.${c}.0-24&`,
      `${a}.${b}.${c}.0-24&fd00::-64`,
      `${a}.${b}.${c}.0-24/`,
      ` ${a}.${b}.${c}.0-24`,
      `${a}.${b}.${c}.0-24&FD00:0:0:1::-64`,
    ];
    const outside = ['0.0.0.0-0', '128.0.0.0-1', '8.8.8.0-24', '192.168.77.0-24', '192.168.77.1-32', '224.0.0.0-4'];
    const odd = ['', 'x', '..', '999.1.1.0-24', 'x'.repeat(2000), '0.0.0.0-0&fd00::-64', '0.0.0.0-0&::-0'];
    switch (this.#below(4)) {
      case 0:
        return this.#pick(around);
      case 1:
        return this.#pick([...outside, ...odd]);
      default:
        return this.#freeName();
    }
  }

  /** A whole subnet of the network, most often nobody's. */
  #freeName(): string {
    const [, a, b] = /^(\d+)\.(\d+)\./.exec(this.#options.victims[0]!.name)!;
    const taken = this.#options.victims.map(({ name }) => name);
    for (;;) {
      const name = `${a}.${b}.${this.#below(256)}.0-24`;
      if (!taken.includes(name)) return name;
    }
  }

  #address(): string {
    const odd = ['127.0.0.1', '224.0.0.1', '255.255.255.255', '0.0.0.0', '192.168.77.1', '10.244.0.1', '::1'];
    return this.#below(3) === 0 ? this.#pick(odd) : `192.168.77.${100 + this.#below(100)}`;
  }

  #mac(): string {
    const odd = ['00:00:00:00:00:00', 'ff:ff:ff:ff:ff:ff', '01:00:5e:00:00:01', 'x'];
    return this.#below(5) === 0 ? this.#pick(odd) : `02:00:00:00:${10 + this.#below(80)}:${10 + this.#below(80)}`;
  }

  #lease({ node, publicIp, mac }: Omit<Victim, 'name'>): Buffer {
    const backend = this.#below(10) === 0 ? this.#pick(['host-gw', 'ipip', 'wireguard', 'x']) : 'vxlan';
    return Buffer.from(
      JSON.stringify({
        PublicIP: publicIp,
        PublicIPv6: null,
        BackendType: backend,
        BackendData: { VNI: 1, VtepMAC: mac },
        ...(this.#below(3) > 0 ? { Weft: { node, version: '0.1.0' } } : {}),
      }),
    );
  }

  /** A lease that pretends something, or one that cannot be read. */
  #value(): Buffer {
    if (this.#below(4) === 0) return this.#unreadable();
    const victim = this.#victim();
    return this.#lease({
      node: this.#pick(['stranger', victim.node]),
      publicIp: this.#pick([this.#address(), this.#address(), victim.publicIp]),
      mac: this.#pick([this.#mac(), this.#mac(), victim.mac]),
    });
  }

  #unreadable(): Buffer {
    const deep = (count: number): string => `{"PublicIP":${'['.repeat(count)}`;
    switch (this.#below(40)) {
      case 0:
        return Buffer.alloc(1_000_000, 0x20);
      case 1:
        return Buffer.from(deep(400_000));
      default:
        return this.#pick([
          Buffer.from(''),
          Buffer.from('null'),
          Buffer.from('[]'),
          Buffer.from('{"PublicIP":7}'),
          Buffer.from('{"PublicIP":"\u001b[2Jx","BackendType":"vxlan"}'),
          Buffer.from(deep(4000)),
          Buffer.from(`${deep(3000)}${']'.repeat(3000)}}`),
          Buffer.from(`{"BackendType":"${'x'.repeat(7000)}"}`),
          Buffer.from(`{${Array.from({ length: 900 }, (_, i) => `"k${i}":0`).join()}}`),
          Buffer.from('{"PublicIP":"192.168.77.99","BackendType":"vxlan","BackendData":{"VNI":1e999,"VtepMAC":7}}'),
          Buffer.from('{"__proto__":{"PublicIP":"192.168.77.99"},"constructor":{}}'),
          this.#noise(200),
        ]);
    }
  }

  #noise(longest: number): Buffer {
    return Buffer.from(Array.from({ length: 1 + this.#below(longest) }, () => 128 + this.#below(128)));
  }
}
