/* SPDX-License-Identifier: Apache-2.0 */
/* The slow path of what guests send: the first packet of a flow, and those that the shortcuts leave alone. */
#pragma once

#include "fragment.h"
#include "meter.h"
#include "outbound_begin.h"
#include "partial.h"
#include "too_big.h"
#include "virtsvc.h"

static __always_inline int check_sender(struct __sk_buff *skb, const struct packet *packet, const struct port *port,
					__u32 number)
{
	const struct settings *own = get_settings();

	if (own && !own->check_sources)
		return NEXT;
	STEP(check_partial(skb, packet->transport +
				(packet->fragment == FRAGMENT_LATER ? 0 : untouchable(packet->protocol))));
	STEP(check_mac(skb, number));
	step(SOURCE_CHECKED, number, 0);
	return check_source(packet, port, number);
}

/* Answers to what left under a public address come to that, wherever it went; but no guest of this host is public. */
static __always_inline int is_answered_elsewhere(const struct flow *was, const struct flow *is, __u32 number)
{
	if (was->rewrite & REWRITE_SOURCE)
		return is->hop == HOP_PORT;
	return was->peer_side != side_of_answers(is, number);
}

/* A flow that leaves under the guest's own address: would it leave under a public one if it began now? */
static __always_inline int wants_translation(const struct scratch *scratch, const struct port *port)
{
	const struct packet *packet = &scratch->packet;

	if (!(scratch->flow.flags & FLOW_PUBLIC) || scratch->flow.rewrite)
		return 0;
	if (packet->is_ipv6)
		return is_nat64(packet, port);
	return packet->source.word[0] == port->ipv4 && (port->nat || port->vip);
}

/* Has the guest another VIP or slice of NAT, or none, than scratch->flow was decided by? */
static __always_inline int is_outdated(const struct scratch *scratch, const struct port *port)
{
	const struct flow *flow = &scratch->flow;

	if (flow->flags & FLOW_HOLDS_PORT)
		return flow->address != port->nat || flow->new_port < port->nat_min || flow->new_port >= port->nat_max;
	if (flow->rewrite & REWRITE_SOURCE)
		return flow->address != port->vip;
	return wants_translation(scratch, port);
}

/* Did the guest that scratch->flow's packets come to ask for them, so that they would as well come by a tunnel? */
static __always_inline int is_asked_for(struct scratch *scratch)
{
	struct flow_key *key = &scratch->peer_key;
	const struct flow *found;

	*key = scratch->key;
	key->side = SIDE_TUNNEL + scratch->flow.port;
	if (scratch->flow.rewrite & REWRITE_SOURCE)
		key->source[0] = bpf_ntohl(scratch->flow.address);
	found = bpf_map_lookup_elem(&flows, key);
	return found && !(found->flags & FLOW_PRIMARY) && !is_expired(found, now_ticks()) &&
	       found->epoch == current_epoch(key, found);
}

/*
 * What a guest answers is let in where the conversation began. If it comes to another guest of this host, because who
 * began came by a tunnel or lost its address, that one has not let anybody in yet: its rules decide.
 */
__weak __noinline int check_answer(struct __sk_buff *skb)
{
	struct scratch *scratch = get_scratch();
	const struct flow *flow;

	if (!scratch)
		return drop(DROP_FIREWALL);
	flow = &scratch->flow;
	if (flow->hop != HOP_PORT || flow->flags & FLOW_PRIMARY || flow->peer_side == SIDE_GUEST + flow->port ||
	    is_asked_for(scratch))
		return NEXT;
	scratch->egress = NO_PORT;
	scratch->ingress = flow->port;
	return check_firewall(skb);
}

static __always_inline int leads_to(const struct flow *flow, __u32 port)
{
	return flow->hop == HOP_PORT && flow->port == port;
}

static __always_inline int needs_way(const struct flow *flow)
{
	return flow->hop == HOP_NONE || flow->revision != current_revision(flow->bucket);
}

/* A flow that is known: its TCP state, and its way if routes have changed. BEGIN, BEGIN_WAY: it is not, or not so. */
__weak __noinline int continue_outbound(struct __sk_buff *skb, __u32 number)
{
	struct scratch *scratch = get_scratch();
	const struct port *port = get_port(number);
	__u32 now = now_ticks();
	struct flow *found;
	__u64 life;
	__u8 tcp;

	if (!scratch || !port)
		return drop(DROP_NO_INTERFACE);
	found = bpf_map_lookup_elem(&flows, &scratch->key);
	if (!found || is_expired(found, now) || found->epoch != current_epoch(&scratch->key, found)) {
		if (found)
			remove_pair(&scratch->key);
		return BEGIN;
	}
	step(FLOW_FOUND, found->kind, found->hop);
	life = read_word(&found->life);
	scratch->flow = *found;
	if (!is_still(&scratch->key, found))
		return drop(DROP_FLOW_RACE);
	if (found->hop != HOP_RELAY && needs_way(found)) {
		STEP(find_way(skb, number));
		if (found->flags & FLOW_PRIMARY &&
		    (is_answered_elsewhere(found, &scratch->flow, number) || is_outdated(scratch, port))) {
			remove_pair(&scratch->key);
			return BEGIN_WAY;
		}
		if (!leads_to(found, scratch->flow.port))
			STEP(check_answer(skb));
		scratch->flow.epoch = current_epoch(&scratch->key, &scratch->flow);
		/* Who removes a flow marks it before, and so does who replaces it: two of them never mean different ones. */
		if (life & LIFE_ENDING || bpf_map_lookup_elem(&flows, &scratch->key) != found ||
		    !replaced(&found->life, life, life | LIFE_ENDING))
			return drop(DROP_FLOW_RACE);
		scratch->flow.life = life;
		if (table_put(&flows, &scratch->key, &scratch->flow, BPF_EXIST)) {
			set(found->life, life);
			return drop(DROP_FLOW_TABLE);
		}
		if (scratch->flow.flags & FLOW_PRIMARY && is_outdated(scratch, port)) {	/* what was to end it saw the old one */
			remove_pair(&scratch->key);
			return drop(DROP_FLOW_RACE);
		}
		found = bpf_map_lookup_elem(&flows, &scratch->key);
		if (!found)
			return drop(DROP_FLOW_RACE);
	} else if (found->hop == HOP_RELAY) {
		set(found->revision, current_revision(found->bucket));
	}
	tcp = next_tcp_state(found->tcp, scratch->packet.tcp_flags, found->flags & FLOW_PRIMARY);
	if (tcp != found->tcp && !(found->flags & FLOW_STATELESS))
		change_tcp(&scratch->key, found, tcp, now);
	prolong(&scratch->key, found, now);
	return NEXT;
}

/* An ICMP error of a guest goes the way of what the guest answers to the packet that it is about. */
__weak __noinline int find_outbound_cause(struct __sk_buff *skb, __u32 number)
{
	struct scratch *scratch = get_scratch();
	const struct port *port = get_port(number);
	const struct flow *found;

	if (!scratch || !port)
		return drop(DROP_NO_INTERFACE);
	STEP(key_of_error(skb, port->vni, SIDE_GUEST + number));
	found = bpf_map_lookup_elem(&flows, &scratch->key);
	if (!found || is_expired(found, now_ticks()) || found->epoch != current_epoch(&scratch->key, found))
		return drop(DROP_ICMP_ERROR);
	scratch->flow = *found;
	if (!is_still(&scratch->key, found))
		return drop(DROP_FLOW_RACE);
	if (needs_way(found)) {
		hash_outbound(scratch, port, number);
		STEP(find_way(skb, number));
		if (!leads_to(found, scratch->flow.port))
			return check_answer(skb);
	}
	return NEXT;
}

static __always_inline int find_outbound_flow(struct __sk_buff *skb, const struct scratch *scratch,
					      const struct port *port, __u32 number)
{
	int found = continue_outbound(skb, number), failed;

	if (found != BEGIN && found != BEGIN_WAY)
		return found;
	STEP(begin_outbound(skb, number, found == BEGIN_WAY));
	failed = insert_flow(skb);
	if (failed != NEXT)
		return drop(failed);
	/* VIP or NAT came or went since it was decided: what ends such flows may have passed before this one was there. */
	if (is_outdated(scratch, port)) {
		remove_pair(&scratch->key);
		return drop(DROP_FLOW_RACE);
	}
	return NEXT;
}

/* A packet of a guest that the fast path left alone. */
__weak __noinline int outbound(struct __sk_buff *skb, __u32 number)
{
	struct scratch *scratch = get_scratch();
	const struct port *port = get_port(number);

	if (!scratch || !port)
		return drop(DROP_NO_INTERFACE);
	STEP(check_protocol(&scratch->packet));
	STEP(check_sender(skb, &scratch->packet, port, number));
	if (is_for_service(&scratch->packet)) {
		STEP(meter(skb, port, number, scratch->packet.length, 0));
		return FOR_SERVICE;
	}
	STEP(check_unicast(&scratch->packet));
	scratch->has_outer = 0;
	if (scratch->packet.is_error) {
		STEP(find_outbound_cause(skb, number));
	} else {
		STEP(follow_fragment(skb, port->vni, SIDE_GUEST + number));
		visit(STAGE_CONNTRACK);
		make_key(&scratch->key, &scratch->packet, port->vni, SIDE_GUEST + number);
		hash_outbound(scratch, port, number);
		STEP(find_outbound_flow(skb, scratch, port, number));
	}
	STEP(check_length(skb, number));
	STEP(meter(skb, port, number, scratch->packet.length, scratch->flow.flags & FLOW_PUBLIC));
	return carry(skb);
}
