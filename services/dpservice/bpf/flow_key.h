/* SPDX-License-Identifier: Apache-2.0 */
/* Keys of flows and of what they hold: of a packet, of the answers to it, of its NAT port. */
#pragma once

#include "parse.h"

/* Between addresses of packets and those of keys, where IPv4 is an integer. */
static __always_inline void key_address(__u32 *to, const union address6 *from, __u8 is_ipv6)
{
	to[0] = is_ipv6 ? from->word[0] : bpf_ntohl(from->word[0]);
	to[1] = from->word[1];
	to[2] = from->word[2];
	to[3] = from->word[3];
}

static __always_inline void packet_address(union address6 *to, const __u32 *from, __u8 is_ipv6)
{
	to->word[0] = is_ipv6 ? from[0] : bpf_htonl(from[0]);
	to->word[1] = from[1];
	to->word[2] = from[2];
	to->word[3] = from[3];
}

static __always_inline void make_key(struct flow_key *key, const struct packet *packet, __u32 vni, __u32 side)
{
	key_address(key->destination, &packet->destination, packet->is_ipv6);
	key->destination_is_ipv6 = packet->is_ipv6;
	key->protocol = packet->protocol;
	key->destination_port = packet->destination_port;
	key_address(key->source, &packet->source, packet->is_ipv6);
	key->source_is_ipv6 = packet->is_ipv6;
	key->discriminator = 0;
	key->source_port = packet->source_port;
	key->vni = vni;
	key->side = side;
}

static __always_inline int is_icmp(__u8 protocol)
{
	return protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6;
}

/* The type of the answer to an ICMP message, or the same for those that have none. */
static __always_inline __u16 answering_type(__u8 protocol, __u16 type)
{
	if (protocol == IPPROTO_ICMPV6)
		return type == ICMPV6_ECHO_REQUEST || type == ICMPV6_ECHO_REPLY ? type ^ 1 : type;
	switch (type) {
	case ICMP_ECHO:
		return ICMP_ECHOREPLY;
	case ICMP_ECHOREPLY:
		return ICMP_ECHO;
	case ICMP_TIMESTAMP:
		return ICMP_TIMESTAMPREPLY;
	case ICMP_TIMESTAMPREPLY:
		return ICMP_TIMESTAMP;
	}
	return type;
}

#define NAT64_WORD 0x0064ff9b	/* 64:ff9b::/96, RFC 6052 */

/* NAT64: the same addresses and protocol in the other family. */
static __always_inline void cross_families(struct flow_key *peer, const struct flow_key *key, const struct flow *flow)
{
	const int to_ipv6 = flow->rewrite & REWRITE_4TO6;

	if (is_icmp(key->protocol)) {
		peer->protocol = to_ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
		/* Echoes only: 8 and 0 are 128 and 129. `peer` has the answering type of the old family by now. */
		if (to_ipv6)
			peer->source_port = peer->source_port == ICMP_ECHO ? ICMPV6_ECHO_REQUEST : ICMPV6_ECHO_REPLY;
		else
			peer->source_port = peer->source_port == ICMPV6_ECHO_REQUEST ? ICMP_ECHO : ICMP_ECHOREPLY;
	}
	peer->destination_is_ipv6 = peer->source_is_ipv6 = !!to_ipv6;
	if (to_ipv6) {
		peer->destination[3] = bpf_htonl(key->source[0]);
		peer->destination[0] = bpf_htonl(NAT64_WORD);
		peer->destination[1] = peer->destination[2] = 0;
		peer->source[0] = flow->underlay.word[0];
		peer->source[1] = flow->underlay.word[1];
		peer->source[2] = flow->underlay.word[2];
		peer->source[3] = flow->underlay.word[3];
		return;
	}
	peer->source[0] = bpf_ntohl(key->destination[3]);
	peer->source[1] = peer->source[2] = peer->source[3] = 0;
	peer->destination[0] = bpf_ntohl(flow->address);
	peer->destination[1] = peer->destination[2] = peer->destination[3] = 0;
}

/* The key of the other direction: what an answer to the rewritten packet says of itself. */
static __always_inline void make_peer_key(struct flow_key *peer, const struct flow_key *key, const struct flow *flow)
{
	const int icmp = is_icmp(key->protocol);

	__builtin_memcpy(peer->destination, key->source, sizeof(peer->destination));
	__builtin_memcpy(peer->source, key->destination, sizeof(peer->source));
	peer->destination_is_ipv6 = key->source_is_ipv6;
	peer->source_is_ipv6 = key->destination_is_ipv6;
	peer->protocol = key->protocol;
	peer->discriminator = 0;
	peer->vni = key->vni;
	peer->side = flow->peer_side;
	peer->destination_port = icmp ? key->destination_port : key->source_port;
	peer->source_port = icmp ? answering_type(key->protocol, key->source_port) : key->destination_port;
	if (flow->rewrite & (REWRITE_6TO4 | REWRITE_4TO6))
		cross_families(peer, key, flow);
	else if (flow->rewrite & REWRITE_SOURCE)
		peer->destination[0] = bpf_ntohl(flow->address);
	else if (flow->rewrite & REWRITE_DESTINATION)
		peer->source[0] = bpf_ntohl(flow->address);
	if (flow->rewrite & REWRITE_PORT) {
		if (icmp || flow->rewrite & REWRITE_SOURCE)
			peer->destination_port = flow->new_port;
		else
			peer->source_port = flow->new_port;
	}
}

static __always_inline int same_key(const struct flow_key *a, const struct flow_key *b)
{
	const __u32 *one = (const __u32 *)a, *other = (const __u32 *)b;
	__u32 i, difference = 0;

#pragma unroll
	for (i = 0; i < sizeof(*a) / sizeof(*one); i++)
		difference |= one[i] ^ other[i];
	return !difference;
}

static __always_inline void nat_key_of(struct nat_key *mapping, const struct flow_key *key)
{
	__u16 port = is_icmp(key->protocol) ? key->destination_port : key->source_port;

	mapping->vni = key->vni;
	__builtin_memcpy(mapping->address, key->source, sizeof(mapping->address));
	mapping->port = key->source_is_ipv6 | (__u32)port << 8;
}

static __always_inline void claim_key_of(struct claim_key *claim, const struct flow_key *key, __be32 nat, __u16 port)
{
	claim->nat = nat;
	claim->destination = bpf_htonl(key->destination[0]);
	if (key->destination_is_ipv6)
		claim->destination = key->destination[3];
	claim->nat_port = port;
	claim->destination_port = key->destination_port;
	claim->protocol = key->protocol == IPPROTO_ICMPV6 ? IPPROTO_ICMP : key->protocol;
}
