/* SPDX-License-Identifier: Apache-2.0 */
/* Longest prefix match within a VNI, the source check that follows from it, and the choice of an uplink. */
#pragma once

#include "flow.h"

#define UPLINK_SLOTS 10

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

/* The source is an address that the port balances: answers to what came for a balancer's address. */
static __always_inline int is_balanced_source(const struct packet *packet, __u32 number)
{
	struct source_key key = { .prefixlen = 96 + (packet->is_ipv6 ? 128 : 32), .port = bpf_htonl(number),
				  .is_ipv6 = bpf_htonl(packet->is_ipv6), .address = packet->source };

	return bpf_map_lookup_elem(&allowed_sources, &key) != 0;
}

/* An interface may lack an address of a family: then the unspecified one is not its own. */
static __always_inline int is_own_source(const struct packet *packet, const struct port *port)
{
	if (packet->is_ipv6)
		return same_address6(&packet->source, &port->ipv6) && (port->ipv6.half[0] | port->ipv6.half[1]);
	return packet->source.word[0] == port->ipv4 && port->ipv4;
}

/* A source is the interface's own address, or one routed to this very port, or one that it balances. */
static __always_inline int check_source(const struct packet *packet, const struct port *port, __u32 number)
{
	const struct hop *back;

	if (is_own_source(packet, port))
		return NEXT;
	back = find_hop(port->vni, &packet->source, packet->is_ipv6);
	if (back && back->kind == HOP_PORT && back->port == number)
		return NEXT;
	return is_balanced_source(packet, number) ? NEXT : drop(DROP_SPOOFED_ADDRESS);
}

/* The uplink that a flow prefers: ten slots, of which the first ones are PF0's. */
static __always_inline __u8 preferred_uplink(__u32 hash)
{
	const struct settings *own = get_settings();

	return own && hash % UPLINK_SLOTS >= own->first_uplink_slots;
}

/* The preferred uplink if it works, else the other one. */
static __always_inline const struct uplink *working_uplink(__u32 preferred)
{
	__u32 index = preferred & (UPLINKS - 1);
	const struct uplink *uplink = bpf_map_lookup_elem(&uplinks, &index);

	if (uplink && uplink->usable)
		return uplink;
	index ^= 1;
	uplink = bpf_map_lookup_elem(&uplinks, &index);
	return uplink && uplink->usable ? uplink : 0;
}

/* The uplink that a packet came in by: what is relayed leaves by the same one. */
static __always_inline const struct uplink *same_uplink(__u32 ifindex)
{
	__u32 first = 0, second = 1;
	const struct uplink *uplink = bpf_map_lookup_elem(&uplinks, &first);

	if (uplink && uplink->ifindex == ifindex)
		return uplink;
	uplink = bpf_map_lookup_elem(&uplinks, &second);
	if (uplink && uplink->ifindex == ifindex)
		return uplink;
	return working_uplink(0);	/* it was merged aside */
}
