/* SPDX-License-Identifier: Apache-2.0 */
/* IPv4-in-IPv6 and IPv6-in-IPv6 towards another hypervisor: no options, no flow label, hop limit 64. */
#pragma once

#include "route.h"

#define OUTER_HOP_LIMIT 64

struct outer {
	struct ethhdr ethernet;
	struct ipv6hdr ip;
} __attribute__((packed));

static __always_inline void make_outer(struct outer *outer, const struct uplink *uplink, __u32 length, __u8 is_ipv6,
				       const union address6 *from, const union address6 *to)
{
	__builtin_memcpy(outer->ethernet.h_dest, uplink->router_mac, ETH_ALEN);
	__builtin_memcpy(outer->ethernet.h_source, uplink->mac, ETH_ALEN);
	outer->ethernet.h_proto = bpf_htons(ETH_P_IPV6);
	outer->ip.version = 6;
	outer->ip.payload_len = bpf_htons(length);
	outer->ip.nexthdr = is_ipv6 ? IPPROTO_IPV6 : IPPROTO_IPIP;
	outer->ip.hop_limit = OUTER_HOP_LIMIT;
	__builtin_memcpy(&outer->ip.saddr, from, sizeof(outer->ip.saddr));
	__builtin_memcpy(&outer->ip.daddr, to, sizeof(outer->ip.daddr));
}

/* Puts the outer header before an IP packet of `length` bytes and sends it off. */
static __always_inline int encapsulate(struct __sk_buff *skb, const struct uplink *uplink, __u32 length, __u8 is_ipv6,
				       const union address6 *from, const union address6 *to)
{
	/* FIXED_GSO: the outer header must not cost the guest's connections a part of their segment size. */
	const __u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV6;
	struct outer outer = {};

	if (!uplink)
		return drop(DROP_NO_UPLINK);
	if (length > 0xffff)
		return drop(DROP_MALFORMED);
	make_outer(&outer, uplink, length, is_ipv6, from, to);
	if (bpf_skb_adjust_room(skb, sizeof(outer.ip), BPF_ADJ_ROOM_MAC, flags))
		return drop(DROP_ENCAPSULATION);
	if (bpf_skb_store_bytes(skb, 0, &outer, sizeof(outer), 0))
		return drop(DROP_ENCAPSULATION);
	step(ENCAPSULATED, uplink->ifindex, 0);
	return send_to(uplink->ifindex);
}

/* A packet whose outer header is still on gets other outer addresses. */
static __always_inline int readdress(struct __sk_buff *skb, const struct uplink *uplink, __u32 length, __u8 is_ipv6,
				     const union address6 *from, const union address6 *to)
{
	struct outer outer = {};

	if (!uplink)
		return drop(DROP_NO_UPLINK);
	make_outer(&outer, uplink, length, is_ipv6, from, to);
	if (bpf_skb_store_bytes(skb, 0, &outer, sizeof(outer), 0))
		return drop(DROP_ENCAPSULATION);
	step(ENCAPSULATED, uplink->ifindex, 0);
	return send_to(uplink->ifindex);
}

/* Sends a packet from an uplink on to `flow`'s outer destination; `start` is the offset of its IP header. */
__weak __noinline int relay_onward(struct __sk_buff *skb, const struct flow *flow, __u32 start, __u32 length,
				   __u32 is_ipv6)
{
	const struct uplink *uplink = same_uplink(skb->ifindex);
	const struct settings *own = get_settings();

	if (!flow || !own)
		return drop(DROP_NO_UPLINK);
	if (start != ETH_HLEN)
		return readdress(skb, uplink, length, is_ipv6, &own->host, &flow->underlay);
	return encapsulate(skb, uplink, length, is_ipv6, &own->host, &flow->underlay);
}
