/* SPDX-License-Identifier: Apache-2.0 */
/* The slow path of what comes out of tunnels: everything that has to be decided for the first packet of a flow. */
#pragma once

#include "echo.h"
#include "balancer.h"
#include "carry.h"
#include "firewall.h"
#include "fragment.h"
#include "nat.h"

/* What may leave a tunnel: no DHCP and no neighbor discovery from another host's guest. */
static __always_inline int check_tunnelled(const struct packet *packet)
{
	STEP(check_protocol(packet));
	if (packet->protocol == IPPROTO_UDP && packet->fragment != FRAGMENT_LATER &&
	    (packet->destination_port == PORT_DHCP_SERVER || packet->destination_port == PORT_DHCP6_SERVER))
		return drop(DROP_DHCP_FROM_TUNNEL);
	if (packet->protocol == IPPROTO_ICMPV6 && packet->source_port >= ND_FIRST && packet->source_port <= ND_LAST)
		return drop(DROP_NEIGHBOR_DISCOVERY);
	return NEXT;
}

static __always_inline void hash_inbound(struct scratch *scratch)
{
	scratch->key.discriminator = scratch->function.kind == FUNCTION_NAT ? FUNCTION_NAT :
				     scratch->function.kind == FUNCTION_BALANCER_PREFIX ? FUNCTION_BALANCER_PREFIX : 0;
	scratch->hash = hash_flow(&scratch->key);
	scratch->key.discriminator = 0;
}

/* To the guest that has the destination in this VNI; tunnels do not lead into tunnels. */
static __always_inline int find_guest(struct scratch *scratch)
{
	const struct hop *hop;
	struct flow *flow = &scratch->flow;
	__u32 vni = scratch->function.vni;

	visit(scratch->packet.is_ipv6 ? STAGE_ROUTE6 : STAGE_ROUTE4);
	flow->bucket = route_bucket(vni, &scratch->packet.destination, scratch->packet.is_ipv6);
	flow->revision = current_revision(flow->bucket);
	hop = find_hop(vni, &scratch->packet.destination, scratch->packet.is_ipv6);
	if (!hop || hop->kind == HOP_NONE)
		return drop(DROP_NO_ROUTE);
	if (hop->kind != HOP_PORT)
		return drop(DROP_NO_TRANSIT);
	flow->hop = HOP_PORT;
	flow->port = hop->port;
	return NEXT;
}

static __always_inline int find_inbound_neighbor(struct scratch *scratch, __be32 address, __u16 port)
{
	const struct neighbor *neighbor = find_neighbor(scratch->function.vni, address, port);

	if (!neighbor)
		return drop(DROP_NAT_NO_OWNER);
	step(NEIGHBOR_FOUND, port, 0);
	scratch->flow.hop = HOP_RELAY;
	scratch->flow.kind = FLOW_NEIGHBOR;
	scratch->flow.underlay = neighbor->underlay;
	return NEXT;
}

/* For what came to a VIP's or NAT's underlay address. */
static __always_inline int find_inbound_owner(struct __sk_buff *skb, struct scratch *scratch)
{
	struct packet *packet = &scratch->packet;
	const struct public_address *public;
	const struct port *owner;

	visit(STAGE_DNAT);
	if (packet->is_ipv6)
		return find_guest(scratch);
	public = find_public(scratch->function.vni, packet->destination.word[0]);
	if (!public)
		return find_guest(scratch);
	step(PUBLIC_FOUND, public->port, 0);
	if (public->port == NO_PORT) {
		if (is_echo_request(packet))
			return answer_tunnel_echo(skb);
		return find_inbound_neighbor(scratch, packet->destination.word[0], packet->destination_port);
	}
	owner = get_port(public->port);
	if (!owner || !owner->used || !owner->ipv4)
		return drop(DROP_NO_ROUTE);
	scratch->flow.hop = HOP_PORT;
	scratch->flow.port = public->port;
	scratch->flow.rewrite = REWRITE_DESTINATION;
	scratch->flow.address = owner->ipv4;
	scratch->flow.kind = FLOW_VIP;
	packet->destination.word[0] = owner->ipv4;	/* as the firewall sees it */
	return NEXT;
}

static __always_inline int find_inbound_way(struct __sk_buff *skb, struct scratch *scratch)
{
	const struct port *port;

	scratch->flow.revision = current_revision(0);
	switch (scratch->function.kind) {
	case FUNCTION_BALANCER:
		if (is_echo_request(&scratch->packet))
			return answer_balancer_echo(skb);
		return choose_target(skb);
	case FUNCTION_VIP:
	case FUNCTION_NAT:
		return find_inbound_owner(skb, scratch);
	}
	port = get_port(scratch->function.port);
	if (!port || !port->used)
		return drop(DROP_NO_DEVICE);
	scratch->flow.hop = HOP_PORT;
	scratch->flow.port = scratch->function.port;
	return NEXT;
}

__weak __noinline int begin_inbound(struct __sk_buff *skb)
{
	struct scratch *scratch = get_scratch();

	if (!scratch)
		return drop(DROP_NO_DEVICE);
	__builtin_memset(&scratch->flow, 0, sizeof(scratch->flow));
	__builtin_memset(&scratch->peer, 0, sizeof(scratch->peer));
	step(FLOW_MISSING, 0, 0);
	STEP(find_inbound_way(skb, scratch));
	if (scratch->flow.hop == HOP_PORT && scratch->flow.kind != FLOW_BALANCER && scratch->has_outer)
		scratch->flow.underlay = scratch->outer_source;
	scratch->owner = scratch->flow.hop == HOP_PORT ? scratch->flow.port + 1 : 0;
	scratch->egress = NO_PORT;
	scratch->ingress = scratch->flow.hop == HOP_PORT ? scratch->flow.port : NO_PORT;
	STEP(check_firewall(skb));
	if (!(scratch->flow.flags & FLOW_STATELESS))
		scratch->flow.tcp = next_tcp_state(TCP_NONE, scratch->packet.tcp_flags, 1);
	if (scratch->flow.hop == HOP_PORT) {
		scratch->flow.flags |= FLOW_HAS_PEER;
		scratch->flow.peer_side = SIDE_GUEST + scratch->flow.port;
		if (scratch->flow.rewrite) {
			scratch->peer.rewrite = REWRITE_SOURCE;
			scratch->peer.address = bpf_htonl(scratch->key.destination[0]);
		}
	}
	return NEXT;
}

/* A flow that is known. BEGIN: it is not. */
__weak __noinline int continue_inbound(struct __sk_buff *skb)
{
	struct scratch *scratch = get_scratch();
	__u32 now = now_ticks();
	struct flow *found;
	__u8 tcp;

	if (!scratch)
		return drop(DROP_NO_DEVICE);
	found = bpf_map_lookup_elem(&flows, &scratch->key);
	if (!found || is_expired(found, now) || found->epoch != current_epoch(&scratch->key, found)) {
		if (found)
			remove_pair(&scratch->key);
		return BEGIN;
	}
	step(FLOW_FOUND, found->kind, found->hop);
	if (found->revision != current_revision(found->bucket)) {
		if (found->bucket) {	/* routed within the VNI */
			remove_pair(&scratch->key);
			return BEGIN;
		}
		set(found->revision, current_revision(0));
	}
	tcp = next_tcp_state(found->tcp, scratch->packet.tcp_flags, found->flags & FLOW_PRIMARY);
	if (tcp != found->tcp && !(found->flags & FLOW_STATELESS))
		change_tcp(&scratch->key, found, tcp, now);
	prolong(&scratch->key, found, now);
	scratch->flow = *found;
	return is_still(&scratch->key, found) ? NEXT : drop(DROP_FLOW_RACE);
}

/* An error about a packet that no flow remembers: balancers and owners of NAT slices are found without one. */
static __always_inline int find_stateless_cause(struct __sk_buff *skb, struct scratch *scratch)
{
	const struct public_address *public;
	__be32 address;

	__builtin_memset(&scratch->flow, 0, sizeof(scratch->flow));
	if (scratch->function.kind == FUNCTION_BALANCER) {
		hash_inbound(scratch);
		return choose_target(skb);
	}
	if (scratch->packet.is_ipv6 || (scratch->function.kind != FUNCTION_NAT && scratch->function.kind != FUNCTION_VIP))
		return drop(DROP_ICMP_ERROR);
	address = bpf_htonl(scratch->key.destination[0]);
	public = find_public(scratch->function.vni, address);
	if (!public || public->port != NO_PORT)
		return drop(DROP_ICMP_ERROR);
	return find_inbound_neighbor(scratch, address, scratch->key.destination_port);
}

__weak __noinline int find_inbound_cause(struct __sk_buff *skb)
{
	struct scratch *scratch = get_scratch();
	const struct flow *found;

	if (!scratch)
		return drop(DROP_ICMP_ERROR);
	STEP(key_of_error(skb, scratch->function.vni, side_of(scratch->function.kind, scratch->function.port)));
	found = bpf_map_lookup_elem(&flows, &scratch->key);
	if (!found || is_expired(found, now_ticks()) || found->epoch != current_epoch(&scratch->key, found))
		return find_stateless_cause(skb, scratch);
	scratch->flow = *found;
	return is_still(&scratch->key, found) ? NEXT : drop(DROP_FLOW_RACE);
}

static __always_inline int find_inbound_flow(struct __sk_buff *skb, const struct scratch *scratch)
{
	int found = continue_inbound(skb), failed;

	if (found != BEGIN)
		return found;
	STEP(begin_inbound(skb));
	failed = insert_flow(skb);
	/* What is only passed on needs no entry: the next packet is decided alike. */
	return failed == NEXT || !scratch->owner ? NEXT : drop(failed);
}

/* A packet for scratch->function that the fast path left alone. `type` is its EtherType, scratch->has_outer is set. */
__weak __noinline int inbound(struct __sk_buff *skb, __u32 type)
{
	struct scratch *scratch = get_scratch();
	__u32 side;

	if (!scratch)
		return drop(DROP_NO_DEVICE);
	visit(STAGE_DECAPSULATION);
	side = side_of(scratch->function.kind, scratch->function.port);
	STEP(parse_packet(skb, scratch->has_outer ? sizeof(struct outer) : ETH_HLEN, type));
	STEP(check_tunnelled(&scratch->packet));
	step(PARSED, scratch->packet.protocol, side);
	if (scratch->packet.is_error) {
		STEP(find_inbound_cause(skb));
	} else {
		STEP(follow_fragment(skb, scratch->function.vni, side));
		visit(STAGE_CONNTRACK);
		make_key(&scratch->key, &scratch->packet, scratch->function.vni, side);
		hash_inbound(scratch);
		STEP(find_inbound_flow(skb, scratch));
	}
	return carry(skb);
}
