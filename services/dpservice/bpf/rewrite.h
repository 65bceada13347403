/* SPDX-License-Identifier: Apache-2.0 */
/*
 * New addresses and ports in a packet. Checksums are corrected by the kernel's helpers, which know the packets of
 * guests whose checksum is still to be completed.
 */
#pragma once

#include "flow.h"

#define IPV4_CHECKSUM	 10	/* offsets in their headers */
#define IPV4_SOURCE	 12
#define IPV4_DESTINATION 16
#define TCP_CHECKSUM	 16
#define UDP_CHECKSUM	 6
#define ICMP_CHECKSUM	 2
#define ICMP_IDENTIFIER	 4

/* The layer 4 header's checksum: offset, and how the helper has to treat it. */
static __always_inline __u32 checksum_place(__u8 protocol, __u64 *flags)
{
	*flags = 0;
	if (protocol == IPPROTO_TCP)
		return TCP_CHECKSUM;
	if (protocol != IPPROTO_UDP)
		return ICMP_CHECKSUM;
	*flags = BPF_F_MARK_MANGLED_0;
	return UDP_CHECKSUM;
}

static __always_inline int rewrite_address(struct __sk_buff *skb, __be32 old, __be32 fresh, __u32 place,
					   __u32 checksum, __u64 flags)
{
	/* Before the address, so that nothing is half done when the packet has no such checksum. */
	if (checksum && bpf_l4_csum_replace(skb, checksum, old, fresh, flags | BPF_F_PSEUDO_HDR | sizeof(fresh)))
		return drop(DROP_TRANSLATION);
	if (bpf_l3_csum_replace(skb, ETH_HLEN + IPV4_CHECKSUM, old, fresh, sizeof(fresh)) ||
	    bpf_skb_store_bytes(skb, place, &fresh, sizeof(fresh), 0))
		return drop(DROP_TRANSLATION);
	return NEXT;
}

static __always_inline int rewrite_port(struct __sk_buff *skb, __be16 old, __be16 fresh, __u32 place, __u32 checksum,
					__u64 flags)
{
	if (bpf_l4_csum_replace(skb, checksum, old, fresh, flags | sizeof(fresh)) ||
	    bpf_skb_store_bytes(skb, place, &fresh, sizeof(fresh), 0))
		return drop(DROP_TRANSLATION);
	return NEXT;
}

/* A new address, and with REWRITE_PORT a new port or ICMP identifier, for a packet. */
struct rewriting {
	__be32 old_address;
	__be32 address;
	__be16 old_port;
	__be16 port;
	__u8 rewrite;		/* enum rewrite */
	__u8 protocol;
};

/* Of a rewriting whose kind is known, what is to be replaced. */
static __always_inline void take_old(struct rewriting *to, const struct flow_key *key)
{
	const int source = to->rewrite & REWRITE_SOURCE;

	to->old_address = bpf_htonl(source ? key->source[0] : key->destination[0]);
	to->old_port = bpf_htons(source && !is_icmp(key->protocol) ? key->source_port : key->destination_port);
	to->protocol = key->protocol;
}

static __always_inline void rewriting_of(struct rewriting *to, const struct flow_key *key, const struct flow *flow)
{
	to->rewrite = flow->rewrite;
	to->address = flow->address;
	to->port = bpf_htons(flow->new_port);
	take_old(to, key);
}

/*
 * Puts a new address and port into a packet without outer header. `transport` is the offset of layer 4, or 0 for a
 * later fragment, which has none.
 */
__weak __noinline int rewrite_ipv4(struct __sk_buff *skb, const struct rewriting *rewriting, __u32 transport)
{
	__u32 checksum, place, port_place;
	__u64 flags = 0;

	if (!rewriting)
		return drop(DROP_TRANSLATION);
	checksum = transport ? transport + checksum_place(rewriting->protocol, &flags) : 0;
	port_place = transport;
	place = ETH_HLEN + IPV4_SOURCE;
	if (!(rewriting->rewrite & REWRITE_SOURCE)) {
		place = ETH_HLEN + IPV4_DESTINATION;
		port_place += sizeof(rewriting->port);
	}
	if (rewriting->protocol == IPPROTO_ICMP) {	/* no pseudo header; one identifier for both sides */
		STEP(rewrite_address(skb, rewriting->old_address, rewriting->address, place, 0, 0));
		port_place = transport + ICMP_IDENTIFIER;
	} else {
		STEP(rewrite_address(skb, rewriting->old_address, rewriting->address, place, checksum, flags));
	}
	step(TRANSLATED, rewriting->address, bpf_ntohs(rewriting->port));
	if (!transport || !(rewriting->rewrite & REWRITE_PORT))
		return NEXT;
	return rewrite_port(skb, rewriting->old_port, rewriting->port, port_place, checksum, flags);
}
