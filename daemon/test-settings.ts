/** Intervals and lifetimes that tests shorten through the environment. Their defaults are up to hours. */

/** In milliseconds, or seconds where the name says so. */
export interface TestSettings {
  readonly leaseTtlSeconds: number | undefined;
  readonly renewMarginMs: number | undefined;
  readonly resyncMs: number | undefined;
  readonly storeTimeoutMs: number | undefined;
  readonly heartbeatMs: number | undefined;
  readonly silenceMs: number | undefined;
  readonly stuckMs: number | undefined;
  readonly lockLifeMs: number | undefined;
  readonly probeMs: number | undefined;
}

export function readTestSettings(environment: Readonly<Record<string, string | undefined>>): TestSettings {
  const integer = (name: string): number | undefined => {
    const text = environment[name];
    return text !== undefined && /^[1-9]\d*$/.test(text) ? Number(text) : undefined;
  };
  return {
    leaseTtlSeconds: integer('WEFTD_TEST_LEASE_TTL_SECONDS'),
    renewMarginMs: integer('WEFTD_TEST_RENEW_MARGIN_MS'),
    resyncMs: integer('WEFTD_TEST_RESYNC_MS'),
    storeTimeoutMs: integer('WEFTD_TEST_ETCD_TIMEOUT_MS'),
    heartbeatMs: integer('WEFTD_TEST_ETCD_HEARTBEAT_MS'),
    silenceMs: integer('WEFTD_TEST_KUBE_SILENCE_MS'),
    stuckMs: integer('WEFTD_TEST_STUCK_MS'),
    lockLifeMs: integer('WEFTD_TEST_LOCK_LIFE_MS'),
    probeMs: integer('WEFTD_TEST_PROBE_MS'),
  };
}
