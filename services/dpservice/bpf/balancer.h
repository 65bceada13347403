/* SPDX-License-Identifier: Apache-2.0 */
/* Load balancing of what arrives for a balancer's underlay address: the target is the outer destination's only. */
#pragma once

#include "flow.h"

/* By the flow's key: an ICMP error belongs to the port of the packet that it is about. */
static __always_inline int is_balanced_port(const struct balancer *balancer, const struct flow_key *key)
{
	__u32 i;

	for (i = 0; i < BALANCER_PORTS && i < balancer->port_count; i++)
		if (balancer->ports[i].port == key->destination_port && balancer->ports[i].protocol == key->protocol)
			return 1;
	return 0;
}

/* The target of a hash, or 0. */
static __always_inline const union address6 *target_of(const struct balancer *balancer, __u32 hash)
{
	__u32 slot = hash % BALANCER_SLOTS, target;

	if (!balancer->target_count)
		return 0;
	barrier_var(slot);
	if (slot >= BALANCER_SLOTS)
		return 0;
	target = balancer->slots[slot];
	if (target >= BALANCER_TARGETS)
		return 0;
	return &balancer->targets[target];
}

/*
 * Decides scratch->flow for scratch->packet by the balancer of scratch->function; the hash is scratch->hash. For an
 * ICMP error packet and key are those of the packet that caused it, the other way round.
 */
__weak __noinline int choose_target(struct __sk_buff *skb)
{
	struct scratch *scratch = get_scratch();
	const struct balancer *balancer;
	const struct function *local;
	const union address6 *target;
	union address6 address;
	__u32 number;

	if (!scratch)
		return drop(DROP_BALANCER);
	visit(STAGE_BALANCER);
	number = scratch->function.balancer;
	balancer = bpf_map_lookup_elem(&balancers, &number);
	if (!balancer || balancer->is_ipv6 != scratch->packet.is_ipv6)
		return drop(DROP_BALANCER);
	packet_address(&address, scratch->key.destination, scratch->packet.is_ipv6);
	if (!same_address6(&address, &balancer->address) || !is_balanced_port(balancer, &scratch->key))
		return drop(DROP_BALANCER);
	target = target_of(balancer, scratch->hash);
	if (!target)
		return drop(DROP_BALANCER_NO_TARGET);
	scratch->flow.kind = FLOW_BALANCER;
	scratch->flow.underlay = *target;
	step(TARGET_CHOSEN, target->word[3], 0);
	local = bpf_map_lookup_elem(&functions, &scratch->flow.underlay);
	if (!local) {
		scratch->flow.flags |= FLOW_STATELESS;
		scratch->flow.hop = HOP_RELAY;
		return NEXT;
	}
	if (local->kind != FUNCTION_BALANCER_PREFIX && local->kind != FUNCTION_INTERFACE &&
	    local->kind != FUNCTION_ALIAS_PREFIX)
		return drop(DROP_BALANCER);
	scratch->flow.hop = HOP_PORT;
	scratch->flow.port = local->port;
	return NEXT;
}
