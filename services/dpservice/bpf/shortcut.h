/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shortcuts past the flow table: a cache line of its own for each flow of TCP or UDP over IPv4 about which nothing has
 * to be decided. The flow stays the truth. Who removes it or changes its TCP state takes its shortcut away, and from
 * time to time a packet goes by the flow so that it lives on.
 *
 * A shortcut is read without a lock: `turn` is odd while somebody writes and another one afterwards.
 */
#pragma once

#include <linux/in.h>

#include "effects.h"

#ifndef barrier
#define barrier() asm volatile("" ::: "memory")
#endif

/* All before comes before all behind: atomic operations with a result see to that. */
static __always_inline void keep_all_order(void)
{
	__u32 any = 0;

	__sync_val_compare_and_swap(&any, 0, 0);
}

/* Between reads whose order matters; x86 keeps that by itself. */
static __always_inline void keep_order(void)
{
#ifdef READS_IN_ORDER
	barrier();
#else
	keep_all_order();
#endif
}

static __always_inline __u32 turn_of(const struct shortcut *shortcut)
{
	return *(const volatile __u32 *)&shortcut->turn;
}

static __always_inline __u32 shortcut_place(__u32 side, __u8 protocol)
{
	return side | (__u32)protocol << 24;
}

static __always_inline int is_same_flow(const struct shortcut *shortcut, const struct shortcut_key *key)
{
	return shortcut->key.source == key->source && shortcut->key.destination == key->destination &&
	       shortcut->key.ports == key->ports && shortcut->key.vni == key->vni && shortcut->key.place == key->place;
}

/*
 * A flow's shortcut is in one of two pairs. Who comes in by one port, or for one public address, has a neighbourhood, for
 * a page that the processor has to look up costs more than a line of memory. Those who have many flows have the others
 * all over the table.
 */
static __always_inline __u32 neighbourhood_of(const struct shortcut_key *key)
{
	const __u32 side = key->place & 0xffffff;

	return ((side < SIDE_VIP ? side : key->destination) * 0x9e3779b1) >> (32 - SHORTCUT_BITS + NEAR_BITS);
}

static __always_inline __u64 mixed_key(const struct shortcut_key *key)
{
	__u64 mixed = ((__u64)key->source << 32 | key->destination) * 0x9e3779b97f4a7c15;

	mixed ^= (__u64)key->ports << 32 | (key->vni ^ key->place * 0x9e3779b1);
	mixed ^= mixed >> 32;	/* for only bits further up profit from a bit by the product */
	return mixed * 0xc2b2ae3d27d4eb4f;
}

static __always_inline struct shortcut_pair *near_pair(const struct shortcut_key *key, __u64 mixed)
{
	__u32 index = mixed >> (64 - NEAR_BITS) | neighbourhood_of(key) << NEAR_BITS;

	return bpf_map_lookup_elem(&shortcuts, &index);
}

static __always_inline struct shortcut_pair *far_pair(__u64 mixed)
{
	__u32 index = mixed >> (64 - NEAR_BITS - SHORTCUT_BITS) & ((1 << SHORTCUT_BITS) - 1);

	return bpf_map_lookup_elem(&shortcuts, &index);
}

/* The shortcut in a pair that says it is the flow's, and the turn that it said so in. */
static __always_inline struct shortcut *place_of(struct shortcut_pair *pair, const struct shortcut_key *key, __u32 *turn)
{
	*turn = turn_of(&pair->place[0]);
	keep_order();
	if (is_same_flow(&pair->place[0], key))
		return &pair->place[0];
	*turn = turn_of(&pair->place[1]);
	keep_order();
	return is_same_flow(&pair->place[1], key) ? &pair->place[1] : 0;
}

/* Copies what the shortcut of a flow says; 0 if it has none. */
static __always_inline int read_shortcut(const struct shortcut_key *key, struct way *copy)
{
	const __u64 mixed = mixed_key(key);
	struct shortcut_pair *pair = near_pair(key, mixed);
	const struct shortcut *from = 0;
	__u32 turn = 0;

	if (pair)
		from = place_of(pair, key, &turn);
	if (!from) {
		pair = far_pair(mixed);
		if (pair)
			from = place_of(pair, key, &turn);
	}
	if (!from || turn & 1)
		return 0;
	keep_order();
	*copy = from->way;
	keep_order();
	return turn_of(from) == turn;
}

static __always_inline int begin_writing(struct shortcut *shortcut)
{
	__u32 turn = turn_of(shortcut);

	return !(turn & 1) && __sync_val_compare_and_swap(&shortcut->turn, turn, turn + 1) == turn;
}

static __always_inline void end_writing(struct shortcut *shortcut)
{
	__u32 turn = turn_of(shortcut);

	__sync_val_compare_and_swap(&shortcut->turn, turn, turn + 1);
}

/* IPv4, TCP or UDP: 0, and the key as packets have it; else 1. */
static __always_inline int shortcut_key_of(struct shortcut_key *to, const struct flow_key *key)
{
	if (key->source_is_ipv6 | key->destination_is_ipv6 || (key->protocol != IPPROTO_TCP && key->protocol != IPPROTO_UDP))
		return 1;
	to->source = bpf_htonl(key->source[0]);
	to->destination = bpf_htonl(key->destination[0]);
	to->ports = bpf_htonl((__u32)key->source_port << 16 | key->destination_port);
	to->vni = key->vni;
	to->place = shortcut_place(key->side, key->protocol);
	return 0;
}

static __always_inline void clear_shortcut(struct shortcut *shortcut, const struct shortcut_key *key)
{
	if (!is_same_flow(shortcut, key) || !begin_writing(shortcut))
		return;		/* who is writing it looks at the flow again afterwards */
	shortcut->key.place = 0;
	end_writing(shortcut);
}

static __always_inline void clear_shortcuts(struct shortcut_pair *pair, const struct shortcut_key *key)
{
	if (!pair)
		return;
	clear_shortcut(&pair->place[0], key);
	clear_shortcut(&pair->place[1], key);
}

/* Takes a flow's shortcut away; to be called after what made it wrong. */
__weak __noinline int forget_shortcut(const struct flow_key *flow_key)
{
#ifndef DRY_RUN
	struct shortcut_key key;
	__u64 mixed;

	if (!flow_key || shortcut_key_of(&key, flow_key))
		return 0;
	mixed = mixed_key(&key);
	keep_all_order();
	clear_shortcuts(near_pair(&key, mixed), &key);
	clear_shortcuts(far_pair(mixed), &key);
#endif
	return 0;
}
