/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Later fragments have no ports: they take those of their first one, which has to come before them. Each interface has
 * places of its own, in which its later packets take those of earlier ones: nobody forgets what others sent.
 */
#pragma once

#include "flow.h"

#define FRAGMENT_TICKS 224	/* 30 s, for which Linux waits for the rest of a packet */

/* The places for packets that enter at a side; from tunnels for scratch->function. */
static __always_inline __u32 owner_of_fragments(const struct scratch *scratch, __u32 side)
{
	if (side < SIDE_TUNNEL)
		return FRAGMENTS_SENT + (side & (FRAGMENTS_RECEIVED - FRAGMENTS_SENT - 1));
	if (side == SIDE_BALANCER)
		return FRAGMENTS_BALANCED + (scratch->function.balancer & (FRAGMENT_OWNERS - FRAGMENTS_BALANCED - 1));
	return FRAGMENTS_RECEIVED + (scratch->function.port & (FRAGMENTS_BALANCED - FRAGMENTS_RECEIVED - 1));
}

/* Identifiers of packets between two hosts mostly follow each other: so many have places that differ. */
static __always_inline __u32 index_of_fragment(const struct fragment_key *key)
{
	__u32 mixed = (key->source.word[0] ^ key->source.word[3]) * 31 ^ key->destination.word[0] ^ key->destination.word[3];

	mixed ^= key->id;
	mixed ^= mixed >> 16;
	mixed ^= mixed >> 8;
	return mixed & (FRAGMENT_PLACES - 1);
}

static __always_inline int is_of_packet(const struct first_fragment *first, const struct fragment_key *key)
{
	return same_address6(&first->key.source, &key->source) &&
	       same_address6(&first->key.destination, &key->destination) && first->key.id == key->id &&
	       first->key.side == key->side && first->key.vni == key->vni && first->key.protocol == key->protocol;
}

__weak __noinline int follow_fragment(struct __sk_buff *skb, __u32 vni, __u32 side)
{
	struct scratch *scratch = get_scratch();
	const struct first_fragment *first;
	struct fragment_place place;
	struct first_fragment own = {};
	struct packet *packet;
	__u32 now = now_ticks();

	if (!scratch)
		return TC_ACT_SHOT;
	packet = &scratch->packet;
	if (packet->fragment == FRAGMENT_NONE)
		return NEXT;
	own.key.side = side;
	own.key.vni = vni;
	own.key.source = packet->source;
	own.key.destination = packet->destination;
	own.key.id = packet->fragment_id;
	own.key.protocol = packet->protocol;
	place.owner = owner_of_fragments(scratch, side);
	place.index = index_of_fragment(&own.key);
	if (packet->fragment == FRAGMENT_FIRST) {
		own.source_port = packet->source_port;
		own.destination_port = packet->destination_port;
		own.until = now + FRAGMENT_TICKS;
		table_put(&fragments, &place, &own, BPF_ANY);
		return NEXT;
	}
	first = bpf_map_lookup_elem(&fragments, &place);
	if (!first || (__s32)(first->until - now) < 0)
		return drop(DROP_FRAGMENT);
	if (!is_of_packet(first, &own.key))
		return drop(DROP_FRAGMENT_SHARE);
	packet->source_port = first->source_port;
	packet->destination_port = first->destination_port;
	return NEXT;
}
