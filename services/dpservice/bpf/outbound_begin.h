/* SPDX-License-Identifier: Apache-2.0 */
/* What is decided for the first packet of a flow that a guest begins: who it is for, its way, its public address. */
#pragma once

#include "echo.h"
#include "carry.h"
#include "firewall.h"
#include "nat.h"

#define DISCRIMINATOR_NAT	     3
#define DISCRIMINATOR_BALANCER_PREFIX 5

static __always_inline int is_nat64(const struct packet *packet, const struct port *port)
{
	return packet->is_ipv6 && port->nat && packet->destination.word[0] == bpf_htonl(NAT64_WORD) &&
	       !(packet->destination.word[1] | packet->destination.word[2]);
}

/* The hash that peers compute too: over the key with a mark of what the port has. */
static __always_inline void hash_outbound(struct scratch *scratch, const struct port *port, __u32 number)
{
	const struct packet *packet = &scratch->packet;

	if (packet->is_ipv6)
		scratch->key.discriminator = is_nat64(packet, port) ? DISCRIMINATOR_NAT : 0;
	else if (port->nat)
		scratch->key.discriminator = DISCRIMINATOR_NAT;
	else if (!is_own_source(packet, port) && is_balanced_source(packet, number))
		scratch->key.discriminator = DISCRIMINATOR_BALANCER_PREFIX;
	scratch->hash = hash_flow(&scratch->key);
	scratch->key.discriminator = 0;
}

/* The route to where the packets of a flow of a port really go; not inline, to keep its keys off its callers' stack. */
__weak __noinline int find_way(struct __sk_buff *skb, __u32 number)
{
	struct scratch *scratch = get_scratch();
	const struct port *port = get_port(number);
	union address6 destination;
	const struct hop *hop;
	struct flow *flow;
	__u8 is_ipv6;

	if (!scratch || !port)
		return drop(DROP_NO_INTERFACE);
	flow = &scratch->flow;
	is_ipv6 = scratch->key.destination_is_ipv6;
	packet_address(&destination, scratch->key.destination, is_ipv6);
	if (flow->rewrite & REWRITE_DESTINATION)
		destination.word[0] = flow->address;
	visit(is_ipv6 ? STAGE_ROUTE6 : STAGE_ROUTE4);
	flow->bucket = route_bucket(port->vni, &destination, is_ipv6);
	flow->revision = current_revision(flow->bucket);
	hop = find_hop(port->vni, &destination, is_ipv6);
	if (!hop || hop->kind == HOP_NONE)
		return drop(DROP_NO_ROUTE);
	step(ROUTED, hop->kind, hop->port);
	flow->hop = hop->kind;
	flow->flags &= ~FLOW_PUBLIC;
	flow->port = hop->port;
	flow->uplink = preferred_uplink(scratch->hash);
	if (hop->kind == HOP_REMOTE) {
		flow->underlay = hop->underlay;
		if (hop->is_default)
			flow->flags |= FLOW_PUBLIC;
	}
	return NEXT;
}

/* Destination NAT: a VIP of this VNI, or an address that NAT shares. NEXT also when it is neither. */
static __always_inline int find_owner(struct __sk_buff *skb, struct scratch *scratch, const struct port *port,
				      __u32 number)
{
	struct packet *packet = &scratch->packet;
	const struct public_address *public;
	const struct neighbor *neighbor;
	const struct port *owner;

	visit(STAGE_DNAT);
	if (packet->is_ipv6)
		return NEXT;
	public = find_public(port->vni, packet->destination.word[0]);
	if (!public)
		return NEXT;
	step(PUBLIC_FOUND, public->port, 0);
	if (public->port != NO_PORT) {
		owner = get_port(public->port);
		if (!owner || !owner->used || !owner->ipv4)
			return drop(DROP_NO_ROUTE);
		scratch->flow.rewrite = REWRITE_DESTINATION;
		scratch->flow.address = owner->ipv4;
		scratch->flow.kind = FLOW_VIP;
		packet->destination.word[0] = owner->ipv4;	/* as the firewall sees it */
		return NEXT;
	}
	if (is_echo_request(packet))
		return answer_guest_echo(skb, number);
	neighbor = find_neighbor(port->vni, packet->destination.word[0], packet->destination_port);
	if (!neighbor)
		return drop(DROP_NAT_NO_OWNER);
	step(NEIGHBOR_FOUND, packet->destination_port, 0);
	scratch->flow.hop = HOP_RELAY;
	scratch->flow.kind = FLOW_NEIGHBOR;
	scratch->flow.underlay = neighbor->underlay;
	scratch->flow.uplink = preferred_uplink(scratch->hash);
	scratch->flow.revision = current_revision(0);
	return NEXT;
}

/* Source NAT of a new public flow. NAT comes before a VIP, which still serves what comes from outside. */
static __always_inline int choose_source(struct __sk_buff *skb, struct scratch *scratch, const struct port *port,
					 __u32 number)
{
	struct flow *flow = &scratch->flow;

	visit(STAGE_SNAT);
	if (!(flow->flags & FLOW_PUBLIC) || flow->rewrite)
		return NEXT;
	if (is_nat64(&scratch->packet, port)) {
		STEP(check_nat64(&scratch->packet));
		STEP(hold_nat_port(skb, number));
		flow->rewrite |= REWRITE_6TO4;
		flow->peer_side = SIDE_NAT;
		return NEXT;
	}
	if (scratch->packet.is_ipv6 || scratch->packet.source.word[0] != port->ipv4)
		return NEXT;
	if (port->nat) {
		STEP(hold_nat_port(skb, number));
		flow->peer_side = SIDE_NAT;
	} else if (port->vip) {
		flow->rewrite = REWRITE_SOURCE;
		flow->address = port->vip;
		flow->kind = FLOW_VIP;
		flow->peer_side = SIDE_VIP;
	}
	return NEXT;
}

/* What answers to scratch->flow meet. */
static __always_inline void expect_answers(struct scratch *scratch, const struct port *port, __u32 number)
{
	const struct flow *flow = &scratch->flow;
	struct flow *peer = &scratch->peer;

	peer->revision = current_revision(0);
	if (flow->hop == HOP_REMOTE) {
		peer->hop = HOP_PORT;
		peer->port = number;
	}	/* else: what the other guest answers finds its way with the first packet */
	if (flow->rewrite & REWRITE_6TO4) {
		peer->rewrite = REWRITE_4TO6 | REWRITE_PORT;
		packet_address(&peer->underlay, scratch->key.source, 1);
	} else if (flow->rewrite & REWRITE_SOURCE) {
		peer->rewrite = REWRITE_DESTINATION | (flow->rewrite & REWRITE_PORT);
		peer->address = bpf_htonl(scratch->key.source[0]);
	} else if (flow->rewrite & REWRITE_DESTINATION) {
		peer->rewrite = REWRITE_SOURCE;
		peer->address = bpf_htonl(scratch->key.destination[0]);
	}
	peer->new_port = is_icmp(scratch->key.protocol) ? scratch->key.destination_port : scratch->key.source_port;
}

static __always_inline __u32 side_of_answers(const struct flow *flow, __u32 number)
{
	return flow->hop == HOP_PORT ? SIDE_GUEST + flow->port : SIDE_TUNNEL + number;
}

/*
 * Decides a flow that begins. `continued`: it was there before, and only the way to its other end is another one; who is
 * there now did not accept it yet.
 */
__weak __noinline int begin_outbound(struct __sk_buff *skb, __u32 number, __u32 continued)
{
	struct scratch *scratch = get_scratch();
	const struct port *port = get_port(number);

	if (!scratch || !port)
		return drop(DROP_NO_INTERFACE);
	__builtin_memset(&scratch->flow, 0, sizeof(scratch->flow));
	__builtin_memset(&scratch->peer, 0, sizeof(scratch->peer));
	scratch->owner = number + 1;
	step(FLOW_MISSING, 0, 0);
	STEP(find_owner(skb, scratch, port, number));
	if (scratch->flow.hop == HOP_NONE)
		STEP(find_way(skb, number));
	scratch->egress = continued ? NO_PORT : number;
	scratch->ingress = scratch->flow.hop != HOP_PORT ? NO_PORT : scratch->flow.port;
	STEP(check_firewall(skb));
	scratch->flow.tcp = next_tcp_state(TCP_NONE, scratch->packet.tcp_flags, 1);
	if (scratch->flow.hop != HOP_RELAY) {
		scratch->flow.flags |= FLOW_HAS_PEER;
		scratch->flow.peer_side = side_of_answers(&scratch->flow, number);
		STEP(choose_source(skb, scratch, port, number));
		expect_answers(scratch, port, number);
	}
	return NEXT;
}
