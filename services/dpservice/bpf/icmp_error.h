/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ICMP errors go the way of the flow that caused them: they are found by the packet inside of them, turned round, and
 * where that flow's packets are rewritten the packet inside is as well.
 */
#pragma once

#include "rewrite.h"

#define ICMP_HEADER 8	/* of an error, before the packet that caused it */

/* Which errors pass: unreachable protocol, port, and fragmentation needed; of ICMPv6 all four. */
static __always_inline int passes(const struct packet *packet)
{
	if (packet->is_ipv6)
		return packet->source_port >= ICMPV6_DEST_UNREACH && packet->source_port <= ICMPV6_PARAMPROB;
	return packet->source_port == ICMP_DEST_UNREACH && packet->icmp_code >= ICMP_PROT_UNREACH &&
	       packet->icmp_code <= ICMP_FRAG_NEEDED;
}

static __always_inline int read_cause_ports(struct __sk_buff *skb, struct packet *cause)
{
	__be16 port[4];

	if (bpf_skb_load_bytes(skb, cause->transport, port, sizeof(port)))
		return drop(DROP_TRUNCATED);
	if (cause->protocol == IPPROTO_TCP || cause->protocol == IPPROTO_UDP) {
		cause->source_port = bpf_ntohs(port[0]);
		cause->destination_port = bpf_ntohs(port[1]);
		return NEXT;
	}
	if (cause->protocol != (cause->is_ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP))
		return drop(DROP_ICMP_ERROR);
	cause->source_port = bpf_ntohs(port[0]) >> 8;
	cause->destination_port = bpf_ntohs(port[2]);
	return NEXT;
}

static __always_inline int read_cause(struct __sk_buff *skb, const struct packet *packet, struct packet *cause)
{
	cause->start = packet->transport + ICMP_HEADER;
	cause->is_ipv6 = packet->is_ipv6;
	if (packet->is_ipv6) {
		struct ipv6hdr ip;

		if (bpf_skb_load_bytes(skb, cause->start, &ip, sizeof(ip)))
			return drop(DROP_TRUNCATED);
		__builtin_memcpy(&cause->source, &ip.saddr, sizeof(cause->source));
		__builtin_memcpy(&cause->destination, &ip.daddr, sizeof(cause->destination));
		cause->protocol = ip.nexthdr;
		cause->transport = cause->start + sizeof(ip);
	} else {
		struct iphdr ip;

		if (bpf_skb_load_bytes(skb, cause->start, &ip, sizeof(ip)))
			return drop(DROP_TRUNCATED);
		if (ip.version != 4 || ip.ihl < 5 || ip.frag_off & bpf_htons(0x1fff))
			return drop(DROP_ICMP_ERROR);
		cause->source = (union address6){ .word[0] = ip.saddr };
		cause->destination = (union address6){ .word[0] = ip.daddr };
		cause->protocol = ip.protocol;
		cause->transport = cause->start + ip.ihl * 4u;
	}
	return read_cause_ports(skb, cause);
}

/* Makes scratch->key the key of what answers the packet that caused the error. */
__weak __noinline int key_of_error(struct __sk_buff *skb, __u32 vni, __u32 side)
{
	struct scratch *scratch = get_scratch();
	struct flow_key *key;
	struct packet *cause;

	if (!scratch)
		return drop(DROP_ICMP_ERROR);
	cause = &scratch->cause;
	key = &scratch->key;
	if (!passes(&scratch->packet) || scratch->packet.fragment != FRAGMENT_NONE)
		return drop(DROP_ICMP_ERROR);
	STEP(read_cause(skb, &scratch->packet, cause));
	/* An error is for the sender of its cause and for nobody else. */
	if (!same_address6(&cause->source, &scratch->packet.destination))
		return drop(DROP_ICMP_ERROR);
	key_address(key->destination, &cause->source, cause->is_ipv6);
	key_address(key->source, &cause->destination, cause->is_ipv6);
	key->destination_is_ipv6 = key->source_is_ipv6 = cause->is_ipv6;
	key->protocol = cause->protocol;
	key->discriminator = 0;
	key->vni = vni;
	key->side = side;
	if (is_icmp(cause->protocol)) {
		key->destination_port = cause->destination_port;
		key->source_port = answering_type(cause->protocol, cause->source_port);
	} else {
		key->destination_port = cause->source_port;
		key->source_port = cause->destination_port;
	}
	return NEXT;
}

/* Changes a field of the packet inside and corrects the error's checksum. */
static __always_inline int rewrite_inside(struct __sk_buff *skb, __u32 checksum, __u32 place, __u32 old, __u32 fresh,
					  __u32 size)
{
	if (bpf_l4_csum_replace(skb, checksum, old, fresh, size) ||
	    bpf_skb_store_bytes(skb, place, &fresh, size, 0))
		return drop(DROP_TRANSLATION);
	return NEXT;
}

static __always_inline int rewrite_inside_address(struct __sk_buff *skb, __u32 checksum, __u32 start, __u32 field,
						  __be32 old, __be32 fresh)
{
	__be16 before, after;

	STEP(rewrite_inside(skb, checksum, start + field, old, fresh, sizeof(fresh)));
	if (bpf_skb_load_bytes(skb, start + IPV4_CHECKSUM, &before, sizeof(before)) ||
	    bpf_l3_csum_replace(skb, start + IPV4_CHECKSUM, old, fresh, sizeof(fresh)) ||
	    bpf_skb_load_bytes(skb, start + IPV4_CHECKSUM, &after, sizeof(after)) ||
	    bpf_l4_csum_replace(skb, checksum, before, after, sizeof(after)))
		return drop(DROP_TRANSLATION);
	return NEXT;
}

/* Puts scratch->flow's address and port into an IPv4 error without outer header, and into the packet inside. */
__weak __noinline int rewrite_error(struct __sk_buff *skb)
{
	struct scratch *scratch = get_scratch();
	__u32 checksum, start, transport, field, port_at;
	__be32 old, fresh;
	__be16 old_port;

	if (!scratch || scratch->packet.is_ipv6)
		return drop(DROP_ICMP_ERROR);
	transport = scratch->packet.transport;
	checksum = transport + ICMP_CHECKSUM;
	start = transport + ICMP_HEADER;
	port_at = start + (scratch->cause.transport - scratch->cause.start);
	fresh = scratch->flow.address;
	if (scratch->flow.rewrite & REWRITE_DESTINATION) {	/* to a guest: it sent what is inside */
		old = bpf_htonl(scratch->key.destination[0]);
		old_port = bpf_htons(scratch->key.destination_port);
		field = IPV4_SOURCE;
		STEP(rewrite_address(skb, old, fresh, ETH_HLEN + IPV4_DESTINATION, 0, 0));
	} else {
		old = bpf_htonl(scratch->key.source[0]);
		old_port = bpf_htons(scratch->key.source_port);
		field = IPV4_DESTINATION;
		port_at += sizeof(old_port);
		if (scratch->packet.source.word[0] == old)
			STEP(rewrite_address(skb, old, fresh, ETH_HLEN + IPV4_SOURCE, 0, 0));
	}
	STEP(rewrite_inside_address(skb, checksum, start, field, old, fresh));
	if (!(scratch->flow.rewrite & REWRITE_PORT))
		return NEXT;
	if (is_icmp(scratch->cause.protocol)) {
		old_port = bpf_htons(scratch->key.destination_port);
		port_at = start + (scratch->cause.transport - scratch->cause.start) + ICMP_IDENTIFIER;
	}
	return rewrite_inside(skb, checksum, port_at, old_port, bpf_htons(scratch->flow.new_port), sizeof(old_port));
}
