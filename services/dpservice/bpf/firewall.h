/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rules of an interface, asked for the first packet of a flow: after destination NAT and before source NAT, so that
 * rules see the guest's own addresses. A direction without rules accepts; with rules, what matches none is dropped.
 */
#pragma once

#include "parse.h"

#define INGRESS 0
#define EGRESS 1

struct rule_walk {
	__u32 list;
	__u32 accepted;
};

static __always_inline int is_within(const union address6 *address, const union address6 *prefix,
				     const union address6 *mask)
{
	return !(((address->half[0] ^ prefix->half[0]) & mask->half[0]) |
		 ((address->half[1] ^ prefix->half[1]) & mask->half[1]));
}

static __always_inline int rule_matches(const struct rule *rule, const struct packet *packet)
{
	if (rule->is_ipv6 != packet->is_ipv6 || (rule->protocol && rule->protocol != packet->protocol))
		return 0;
	if (!is_within(&packet->source, &rule->source, &rule->source_mask) ||
	    !is_within(&packet->destination, &rule->destination, &rule->destination_mask))
		return 0;
	if (!rule->protocol)
		return 1;
	if (packet->protocol == IPPROTO_TCP || packet->protocol == IPPROTO_UDP)
		return packet->source_port >= rule->source_low && packet->source_port <= rule->source_high &&
		       packet->destination_port >= rule->destination_low &&
		       packet->destination_port <= rule->destination_high;
	return (rule->icmp_type < 0 || rule->icmp_type == packet->source_port) &&
	       (rule->icmp_code < 0 || rule->icmp_code == packet->icmp_code);
}

static long look_at_rule(__u32 index, struct rule_walk *walk)
{
	struct rule_key key = { .list = walk->list, .index = index };
	struct scratch *scratch = get_scratch();
	const struct rule *rule;

	rule = bpf_map_lookup_elem(&rules, &key);
	if (!rule || !scratch)
		return 1;
	if (!rule_matches(rule, &scratch->packet))
		return 0;
	walk->accepted = rule->accept;
	step(RULE_MATCHED, index, rule->accept);
	return 1;
}

/* Whether a port's rules of a direction accept scratch->packet. */
static __always_inline int is_accepted(__u32 port, __u32 direction)
{
	__u32 entry = 2 * port + direction;
	const struct rule_list *list = bpf_map_lookup_elem(&rule_lists, &entry);
	struct rule_walk walk = {};

	if (!list || !list->count)
		return 1;
	walk.list = list->list;
	bpf_loop(list->count, look_at_rule, &walk, 0);
	return walk.accepted;
}

/* Asks the rules of scratch->egress and scratch->ingress, ports or NO_PORT. */
__weak __noinline int check_firewall(struct __sk_buff *skb)
{
	const struct scratch *scratch = get_scratch();
	const struct settings *own = get_settings();

	visit(STAGE_FIREWALL);
	if (!scratch || !own || !own->firewall)
		return NEXT;
	if (scratch->egress != NO_PORT && !is_accepted(scratch->egress, EGRESS))
		return drop(DROP_FIREWALL);
	if (scratch->ingress != NO_PORT && !is_accepted(scratch->ingress, INGRESS))
		return drop(DROP_FIREWALL);
	return NEXT;
}
