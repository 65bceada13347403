/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is a packet on an uplink one of ours, and for what? Shared by the XDP program, which takes the outer header off
 * before the kernel merges segments, and by the tc program, which does it on other drivers.
 */
#pragma once

#include "parse.h"

#ifndef BPF_F_ADJ_ROOM_DECAP_L3_IPV4
#define BPF_F_ADJ_ROOM_DECAP_L3_IPV4 (1ULL << 7)
#define BPF_F_ADJ_ROOM_DECAP_L3_IPV6 (1ULL << 8)
#endif

#define FUNCTION_RANGE	    0xd0	/* ninth byte of generated addresses: <host prefix>:d000::/68 */
#define FUNCTION_RANGE_MASK 0xf0

enum outer_verdict {
	OUTER_FOREIGN,		/* the host's own business: leave it to the kernel */
	OUTER_OURS,
	OUTER_UNTRUSTED,
	OUTER_UNKNOWN,
	OUTER_MALFORMED,
};

static __always_inline int is_trusted(const union address6 *source)
{
	struct trusted_key key = { .prefixlen = 32 + 128, .address = *source };

	return bpf_map_lookup_elem(&trusted_sources, &key) != 0;
}

/*
 * Without `check_source` the caller asks is_trusted() himself, unless a flow knows the source.
 * `inner` is the first byte behind the outer header, readable.
 */
static __always_inline enum outer_verdict judge_outer(const struct ipv6hdr *ip, const __u8 *inner,
						      const struct function **function, int check_source)
{
	const struct settings *own = get_settings();
	union address6 destination, source;

	if (!own || ip->version != 6 || (ip->nexthdr != IPPROTO_IPIP && ip->nexthdr != IPPROTO_IPV6))
		return OUTER_FOREIGN;
	copy_address(&destination, &ip->daddr);
	if (destination.half[0] != own->underlay_prefix)
		return OUTER_FOREIGN;
	*function = bpf_map_lookup_elem(&functions, &destination);
	if (!*function)
		return (destination.byte[8] & FUNCTION_RANGE_MASK) == FUNCTION_RANGE ? OUTER_UNKNOWN : OUTER_FOREIGN;
	__builtin_memcpy(&source, &ip->saddr, sizeof(source));
	if (check_source && !is_trusted(&source))
		return OUTER_UNTRUSTED;
	if (*inner >> 4 != (ip->nexthdr == IPPROTO_IPIP ? 4 : 6))
		return OUTER_MALFORMED;
	return OUTER_OURS;
}

static __always_inline enum drop_reason outer_reason(enum outer_verdict verdict)
{
	switch (verdict) {
	case OUTER_UNTRUSTED:
		return DROP_UNTRUSTED_SOURCE;
	case OUTER_UNKNOWN:
		return DROP_UNKNOWN_UNDERLAY;
	default:
		return DROP_MALFORMED;
	}
}

/* What may have to be sent on to another host keeps its outer header. */
static __always_inline int may_be_relayed(const struct function *function, const struct ipv6hdr *ip, const void *end)
{
	const struct iphdr *inner = (void *)(ip + 1);

	if (function->kind == FUNCTION_BALANCER)
		return 1;
	if (function->kind != FUNCTION_NAT && function->kind != FUNCTION_VIP)
		return 0;
	return ip->nexthdr == IPPROTO_IPIP && ((void *)(inner + 1) > end || inner->protocol == IPPROTO_ICMP);
}

/* Where packets for a function enter, as far as flows are concerned. */
static __always_inline __u32 side_of(__u32 kind, __u32 port)
{
	switch (kind) {
	case FUNCTION_VIP:
		return SIDE_VIP;
	case FUNCTION_NAT:
		return SIDE_NAT;
	case FUNCTION_BALANCER:
		return SIDE_BALANCER;
	}
	return SIDE_TUNNEL + (port & 0xffff);
}

/* Takes the outer header off; `type` is the inner packet's EtherType. */
static __always_inline int unwrap(struct __sk_buff *skb, __be16 type)
{
	__u64 decap = type == bpf_htons(ETH_P_IP) ? BPF_F_ADJ_ROOM_DECAP_L3_IPV4 : BPF_F_ADJ_ROOM_DECAP_L3_IPV6;
	const int room = -(int)sizeof(struct ipv6hdr);
	struct ethhdr *ethernet;

	/* Kernels before 6.4 do not know the decap flags and leave skb->protocol as it was. */
	if (bpf_skb_adjust_room(skb, room, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO | decap) &&
	    bpf_skb_adjust_room(skb, room, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO))
		return drop(DROP_DECAPSULATION);
	if (pull(skb, sizeof(*ethernet)))
		return drop(DROP_DECAPSULATION);
	ethernet = (void *)(long)skb->data;
	if ((void *)(ethernet + 1) > (void *)(long)skb->data_end)
		return drop(DROP_DECAPSULATION);
	ethernet->h_proto = type;
	return NEXT;
}
