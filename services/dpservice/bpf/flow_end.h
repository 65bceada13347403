/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a flow: of all who try to remove it one succeeds, and gives back what it held. */
#pragma once

#include <linux/errno.h>

#include "flow_key.h"
#include "hash.h"
#include "shortcut.h"

/* A word that others write meanwhile, read once. */
static __always_inline __u64 read_word(const __u64 *place)
{
	return *(const volatile __u64 *)place;
}

/* The usage that a flow is charged to. */
static __always_inline struct usage *usage_of(__u32 owner)
{
	return bpf_map_lookup_elem(&usage, &owner);
}

/* Users and birth of a mapping. */
static __always_inline __u64 *users_of(struct nat_mapping *mapping)
{
	return (__u64 *)&mapping->users;
}

#define ONE_USER     1ULL
#define USERS(word)  ((__u32)(word))
#define USERS_TRIES  64

/* Gives a NAT port's claim back, and the port itself when no flow has it any more. */
__weak __noinline int release_port(const struct flow_key *key, __be32 address, __u32 port)
{
	union {				/* one after the other, for the stack's sake */
		struct claim_key claim;
		struct nat_key mapping;
	} held;
	struct nat_mapping *found;
	struct usage *used;
	__u32 owner, i;
	__u64 word = 0;

	if (!key)
		return 0;
	claim_key_of(&held.claim, key, address, port);
	table_take(&nat_claims, &held.claim);
	nat_key_of(&held.mapping, key);
	found = bpf_map_lookup_elem(&nat_mappings, &held.mapping);
	if (!found)
		return 0;
	for (i = 0; i < USERS_TRIES; i++) {
		word = read_word(users_of(found));
		/* Another slice's, or gone: a mapping that was taken from its flows. */
		if (found->address != address || found->port != port || !USERS(word) ||
		    bpf_map_lookup_elem(&nat_mappings, &held.mapping) != found)
			return 0;
		owner = found->owner;
		if (replaced(users_of(found), word, word - ONE_USER))
			break;
	}
	if (USERS(word) != 1 || i == USERS_TRIES)
		return 0;
	/* Nobody else removes it, for it has no users any more, and until it is gone nobody makes another one. */
	table_take(&nat_mappings, &held.mapping);
	used = usage_of(owner);
	if (used)
		count_down(&used->nat_ports);
	return 0;
}

/*
 * Removes one direction and what it holds, if it is still that of `life`. Of all who try, also on other processors and
 * in the middle of each other, one succeeds and gives back: the one who marks the entry. Then nobody else removes or
 * replaces it, so that what is read of it and what is taken out of the table are the same flow.
 */
__weak __noinline int remove_flow(const struct flow_key *key, __u64 life)
{
	struct flow *found;
	struct usage *used;
	__u16 owner, port;
	__be32 address;
	__u8 flags;

	if (!key || life & LIFE_ENDING)
		return 0;
	found = bpf_map_lookup_elem(&flows, key);
	if (!found || !replaced(&found->life, life, life | LIFE_ENDING))
		return 0;
	/* Read before: the entry may get another flow as soon as it is free. */
	owner = found->owner;
	flags = found->flags;
	address = found->address;
	port = found->new_port;
	if (table_take(&flows, key)) {
		set(found->life, life);
		return 0;
	}
	forget_shortcut(key);
	if (!(flags & FLOW_PRIMARY))
		return 1;
	used = usage_of(owner);
	if (used)
		count_down(&used->flows);
	if (flags & FLOW_HOLDS_PORT)
		release_port(key, address, port);
	return 1;
}

/* Is it the other direction of a flow, and not one that has taken its place? */
static __always_inline int is_pair(const struct flow *flow, const struct flow *peer)
{
	return !((flow->life ^ peer->life) >> LIFE_SHIFT);
}

/* Removes both directions. */
__weak __noinline int remove_pair(const struct flow_key *key)
{
	struct flow_key peer;
	struct flow *found;
	__u64 life;
	__u8 flags;

	if (!key)
		return 0;
	found = bpf_map_lookup_elem(&flows, key);
	if (!found)
		return 0;
	life = read_word(&found->life);
	flags = found->flags;
	make_peer_key(&peer, key, found);
	/* Else it has become another flow's while it was read. */
	if (bpf_map_lookup_elem(&flows, key) != found || read_word(&found->life) != life)
		return 0;
	if (flags & FLOW_HAS_PEER)
		remove_flow(&peer, life ^ LIFE_PEER);
	remove_flow(key, life);
	return 0;
}
