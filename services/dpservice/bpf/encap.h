/* SPDX-License-Identifier: Apache-2.0 */
/* IPv4-in-IPv6 and IPv6-in-IPv6 towards another hypervisor: no options, no flow label, hop limit 64. */
#pragma once

#include "route.h"

#define OUTER_HOP_LIMIT 64

/* FIXED_GSO: the outer header must not cost the guest's connections a part of their segment size. */
#ifndef ENCAPSULATION
#define ENCAPSULATION (BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV6)
#endif

struct outer {
	struct ethhdr ethernet;
	struct ipv6hdr ip;
} __attribute__((packed, aligned(2)));

/* The same in a place where its addresses are aligned, or the compiler would write them byte by byte. */
struct outer_place {
	__u16 padding;
	__u8 to[ETH_ALEN];
	__u8 from[ETH_ALEN];
	__be16 type;
	__be32 version;		/* and class and flow label */
	__be16 length;
	__u8 next_header;
	__u8 hop_limit;
	union address6 source;
	union address6 destination;
};

static __always_inline void make_outer(struct outer_place *outer, const struct uplink *uplink, __u32 length, __u8 is_ipv6,
				       const union address6 *from, const union address6 *to)
{
	__builtin_memcpy(outer->to, uplink->router_mac, ETH_ALEN);
	__builtin_memcpy(outer->from, uplink->mac, ETH_ALEN);
	outer->type = bpf_htons(ETH_P_IPV6);
	outer->version = bpf_htonl(6u << 28);
	outer->length = bpf_htons(length);
	outer->next_header = is_ipv6 ? IPPROTO_IPV6 : IPPROTO_IPIP;
	outer->hop_limit = OUTER_HOP_LIMIT;
	outer->source = *from;
	outer->destination = *to;
}

/* Puts the outer header before an IP packet of `length` bytes and sends it off. Not inline: it needs much stack. */
__weak __noinline int encapsulate(struct __sk_buff *skb, const struct uplink *uplink, __u32 length,
				  const union address6 *from, const union address6 *to)
{
	struct outer_place outer;

	if (!uplink || !from || !to)
		return drop(DROP_NO_UPLINK);
	if (length > 0xffff)
		return drop(DROP_MALFORMED);
	make_outer(&outer, uplink, length, skb->protocol == bpf_htons(ETH_P_IPV6), from, to);
	if (bpf_skb_adjust_room(skb, sizeof(struct ipv6hdr), BPF_ADJ_ROOM_MAC, ENCAPSULATION))
		return drop(DROP_ENCAPSULATION);
	if (bpf_skb_store_bytes(skb, 0, outer.to, sizeof(struct outer), 0))
		return drop(DROP_ENCAPSULATION);
	step(ENCAPSULATED, uplink->ifindex, 0);
	return send_to(uplink->ifindex);
}

/* A packet whose outer header is still on gets other outer addresses. */
static __always_inline int readdress(struct __sk_buff *skb, const struct uplink *uplink, __u32 length, __u8 is_ipv6,
				     const union address6 *from, const union address6 *to)
{
	struct outer_place outer;

	if (!uplink)
		return drop(DROP_NO_UPLINK);
	make_outer(&outer, uplink, length, is_ipv6, from, to);
	if (bpf_skb_store_bytes(skb, 0, outer.to, sizeof(struct outer), 0))
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
	return encapsulate(skb, uplink, length, &own->host, &flow->underlay);
}
