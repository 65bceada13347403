/* SPDX-License-Identifier: Apache-2.0 */
/* Longest prefix match within a VNI, and the source check that follows from it. */
#pragma once

#include "parse.h"

static __always_inline const struct hop *find_hop(__u32 vni, const union address6 *address, __u8 is_ipv6)
{
	if (is_ipv6) {
		struct route_key6 key = { .prefixlen = 32 + 128, .vni = bpf_htonl(vni), .address = *address };

		return bpf_map_lookup_elem(&routes6, &key);
	} else {
		struct route_key4 key = { .prefixlen = 32 + 32, .vni = bpf_htonl(vni), .address = address->word[0] };

		return bpf_map_lookup_elem(&routes4, &key);
	}
}

static __always_inline int same_address6(const union address6 *a, const union address6 *b)
{
	return a->half[0] == b->half[0] && a->half[1] == b->half[1];
}

/* A source is the interface's own address, or one that is routed to this very port (an alias prefix). */
static __always_inline int check_source(const struct packet *packet, const struct port *port, __u32 number)
{
	const struct hop *back;

	if (packet->is_ipv6 ? same_address6(&packet->source, &port->ipv6) : packet->source.word[0] == port->ipv4)
		return NEXT;
	back = find_hop(port->vni, &packet->source, packet->is_ipv6);
	if (back && back->kind == HOP_PORT && back->port == number)
		return NEXT;
	return drop(DROP_SPOOFED_ADDRESS);
}
