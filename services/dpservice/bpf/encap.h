/* SPDX-License-Identifier: Apache-2.0 */
/* IPv4-in-IPv6 and IPv6-in-IPv6 towards another hypervisor: no options, no flow label, hop limit 64. */
#pragma once

#include "parse.h"

#define OUTER_HOP_LIMIT 64

/* PF0 while it works, then PF1. */
static __always_inline const struct uplink *choose_uplink(void)
{
	__u32 index;

#pragma unroll
	for (index = 0; index < UPLINKS; index++) {
		__u32 key = index;
		const struct uplink *uplink = bpf_map_lookup_elem(&uplinks, &key);

		if (uplink && uplink->usable)
			return uplink;
	}
	return 0;
}

struct outer {
	struct ethhdr ethernet;
	struct ipv6hdr ip;
} __attribute__((packed));

static __always_inline int encapsulate(struct __sk_buff *skb, const struct packet *packet,
				       const union address6 *from, const union address6 *to)
{
	/* FIXED_GSO: the outer header must not cost the guest's connections a part of their segment size. */
	const __u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV6;
	const struct uplink *uplink = choose_uplink();
	struct outer outer = {};

	if (!uplink)
		return drop(DROP_NO_UPLINK);
	if (packet->length > 0xffff)
		return drop(DROP_MALFORMED);
	__builtin_memcpy(outer.ethernet.h_dest, uplink->router_mac, ETH_ALEN);
	__builtin_memcpy(outer.ethernet.h_source, uplink->mac, ETH_ALEN);
	outer.ethernet.h_proto = bpf_htons(ETH_P_IPV6);
	outer.ip.version = 6;
	outer.ip.payload_len = bpf_htons(packet->length);
	outer.ip.nexthdr = packet->is_ipv6 ? IPPROTO_IPV6 : IPPROTO_IPIP;
	outer.ip.hop_limit = OUTER_HOP_LIMIT;
	__builtin_memcpy(&outer.ip.saddr, from, sizeof(outer.ip.saddr));
	__builtin_memcpy(&outer.ip.daddr, to, sizeof(outer.ip.daddr));
	if (bpf_skb_adjust_room(skb, sizeof(outer.ip), BPF_ADJ_ROOM_MAC, flags))
		return drop(DROP_ENCAPSULATION);
	if (bpf_skb_store_bytes(skb, 0, &outer, sizeof(outer), 0))
		return drop(DROP_ENCAPSULATION);
	return bpf_redirect(uplink->ifindex, 0);
}
