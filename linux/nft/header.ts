/**
 * Where fields are in packets' headers, in bytes, by the names of the kernel's structs. The one place for these numbers:
 * match.ts writes rules with them, daemon/filter reads other programs' rules by them.
 */

/** struct iphdr, include/uapi/linux/ip.h (RFC 791), and struct ipv6hdr, ipv6.h (RFC 8200): saddr and daddr. */
export const addressOffset = { source: { 4: 12, 6: 8 }, destination: { 4: 16, 6: 24 } } as const;
export const addressBytes = { 4: 4, 6: 16 } as const;
/** iphdr.protocol, ipv6hdr.nexthdr */
export const protocolOffset = { 4: 9, 6: 6 } as const;

/** struct ethhdr, include/uapi/linux/if_ether.h */
export const ethhdr = { h_dest: 0, h_source: 6, h_proto: 12, bytes: 14 } as const;
/** ETH_P_*, the same file. TEB is an Ethernet frame inside a tunnel. */
export const ethernetProtocol = {
  ETH_P_IP: 0x0800,
  ETH_P_IPV6: 0x86dd,
  ETH_P_TEB: 0x6558,
  ETH_P_8021Q: 0x8100,
  ETH_P_8021AD: 0x88a8,
  ETH_P_WCCP: 0x883e,
} as const;

/** IPPROTO_*, include/uapi/linux/in.h */
export const ipProtocol = {
  IPPROTO_IPIP: 4,
  IPPROTO_TCP: 6,
  IPPROTO_UDP: 17,
  IPPROTO_IPV6: 41,
  IPPROTO_FRAGMENT: 44,
  IPPROTO_GRE: 47,
} as const;

/** struct udphdr, include/uapi/linux/udp.h (RFC 768). TCP's ports are in the same place. `bytes`: the whole header. */
export const udphdr = { source: 0, dest: 2, bytes: 8 } as const;

/** struct vxlanhdr, include/net/vxlan.h (RFC 7348). The VNI is in the first three bytes of `vx_vni`. */
export const vxlanhdr = { vx_flags: 0, vx_vni: 4, bytes: 8 } as const;

/**
 * GRE (RFC 2784, RFC 2890; struct gre_base_hdr, include/net/gre.h): flags, protocol, then what the flags announce, four
 * bytes each: the checksum, the key, a sequence number.
 */
export const greHeader = { flags: 0, protocol: 2, options: 4, checksumBytes: 4, optionBytes: 4 } as const;
/** include/uapi/linux/if_tunnel.h, in host byte order */
export const greFlag = {
  GRE_CSUM: 0x8000,
  GRE_ROUTING: 0x4000,
  GRE_KEY: 0x2000,
  GRE_SEQ: 0x1000,
  GRE_VERSION: 0x0007,
} as const;
