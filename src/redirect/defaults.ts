/** Numbers and names that a Kuma sidecar and control plane agree on, and the configuration made of them. */
import type { DirectionConfig, RedirectConfig } from "./config.ts";

/** Port of the sidecar's listener for an application's outgoing TCP connections. */
export const OUTBOUND_PORT = 15001;

/** Port of the sidecar's listener for incoming TCP connections, both families. */
export const INBOUND_PORT = 15006;

/** Port of the sidecar's DNS proxy. */
export const DNS_PROXY_PORT = 15053;

/** Port of the DNS itself. */
export const DNS_PORT = 53;

/** UID under which the control plane runs the sidecar. */
export const SIDECAR_UID = 5678;

/** Port of the sidecar's administration interface; not redirected when only legacy annotations exist. */
export const ENVOY_ADMIN_PORT = 9901;

/** Syslog level of the LOG rules: 7 is "debug". */
export const LOG_LEVEL = 7;

function direction(port: number): DirectionConfig {
  return {
    enabled: true,
    port,
    includePorts: [],
    excludePorts: [],
    excludeIps: [],
    excludeUids: [],
    insertInsteadOfAppend: false,
  };
}

/**
 * The configuration of a pod that states nothing: TCP of both directions and both families is
 * redirected, DNS is not. It is what an empty `traffic.kuma.io/transparent-proxy-config` object means.
 */
export const defaultRedirectConfig: RedirectConfig = {
  rulesVersion: "3",
  ipFamilyMode: "dualstack",
  sidecarUid: SIDECAR_UID,
  inbound: direction(INBOUND_PORT),
  outbound: direction(OUTBOUND_PORT),
  dns: {
    enabled: false,
    port: DNS_PROXY_PORT,
    captureAll: false,
    servers: [],
    skipConntrackZoneSplit: false,
  },
  virtualNetworks: [],
  dropInvalidPackets: false,
  log: { enabled: false, level: LOG_LEVEL },
  comments: true,
};
