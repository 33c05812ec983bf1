/**
 * The configuration of the sidecar: what a control plane would send it, as far as it shows where
 * traffic went. Each request that it carries says so in the answer, by direction.
 */
const type = (name: string) => `type.googleapis.com/envoy.${name}`;

const originalDestination = {
  name: "envoy.filters.listener.original_dst",
  typed_config: {
    "@type": type("extensions.filters.listener.original_dst.v3.OriginalDst"),
  },
};

/** One listener for both families, as Kuma's proxies have them. */
function listener(name: string, port: number, cluster: string, rewrite?: [string, string]): object {
  const [prefix, prefixRewrite] = rewrite ?? ["/"];
  return {
    name,
    address: { socket_address: { address: "::", port_value: port, ipv4_compat: true } },
    ...(rewrite === undefined ? { listener_filters: [originalDestination] } : {}),
    filter_chains: [{
      filters: [{
        name: "http",
        typed_config: {
          "@type": type(
            "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
          ),
          stat_prefix: name,
          http_filters: [{
            name: "router",
            typed_config: { "@type": type("extensions.filters.http.router.v3.Router") },
          }],
          route_config: {
            response_headers_to_add: [{ header: { key: `x-carried-${name}`, value: "yes" } }],
            virtual_hosts: [{
              name: "all",
              domains: ["*"],
              routes: [{
                match: { prefix },
                route: {
                  cluster,
                  ...(prefixRewrite === undefined ? {} : { prefix_rewrite: prefixRewrite }),
                },
              }],
            }],
          },
        },
      }],
    }],
  };
}

/** The name that the sidecar alone knows, and its addresses. */
export const meshName = { name: "web.mesh", ipv4: "240.0.0.7", ipv6: "fd00:fd00::7" } as const;

/** It listens on loopback: an answer from a pod's own address would not match its entry of NAT. */
function dnsListener(address: string): object {
  return {
    name: `dns ${address}`,
    address: { socket_address: { address, port_value: 15053, protocol: "UDP" } },
    listener_filters: [{
      name: "dns",
      typed_config: {
        "@type": type("extensions.filters.udp.dns_filter.v3.DnsFilterConfig"),
        stat_prefix: "dns",
        server_config: {
          inline_dns_table: {
            virtual_domains: [{
              name: meshName.name,
              endpoint: { address_list: { address: [meshName.ipv4, meshName.ipv6] } },
            }],
          },
        },
      },
    }],
  };
}

/** Connections to the application come from these addresses, by which the rules know them. */
const passthrough = {
  source_address: { address: "127.0.0.6", port_value: 0 },
  extra_source_addresses: [{ address: { address: "::6", port_value: 0 } }],
};

function original(name: string, more: object = {}): object {
  return {
    name,
    type: "ORIGINAL_DST",
    lb_policy: "CLUSTER_PROVIDED",
    connect_timeout: "2s",
    ...more,
  };
}

/** Envoy's whole configuration, as a ConfigMap in a namespace. */
export function sidecarConfigMap(namespace: string): object {
  const local = { socket_address: { address: "127.0.0.1", port_value: 8080 } };
  const configuration = {
    static_resources: {
      listeners: [
        listener("outbound", 15001, "outbound"),
        listener("inbound", 15006, "inbound"),
        // Kubelet's probes, which the injector sends here.
        listener("probes", 9001, "application", ["/8080/", "/"]),
        dnsListener("127.0.0.1"),
        dnsListener("::1"),
      ],
      clusters: [
        original("outbound"),
        original("inbound", { upstream_bind_config: passthrough }),
        {
          name: "application",
          type: "STATIC",
          load_assignment: {
            cluster_name: "application",
            endpoints: [{ lb_endpoints: [{ endpoint: { address: local } }] }],
          },
        },
      ],
    },
    admin: { address: { socket_address: { address: "127.0.0.1", port_value: 9901 } } },
  };
  return {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "sidecar", namespace },
    data: { "envoy.json": JSON.stringify(configuration) },
  };
}
