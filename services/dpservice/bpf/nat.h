/* SPDX-License-Identifier: Apache-2.0 */
/* Ports of a shared public address: a guest's port keeps the NAT port it got, towards every destination. */
#pragma once

#include "bucket.h"
#include "flow.h"

/*
 * A search through a large slice that is used up takes milliseconds. A guest may cause one now and then; otherwise its
 * packets get a few tries, so that it costs its neighbours a twentieth of a processor at most.
 */
#define FREE_TRIES   64
#define TRY_COST     4000			/* ns, twenty times what it takes */
#define SEARCH_DEPTH (65536ULL * TRY_COST)	/* the largest slice once */

struct port_search {
	struct claim_key claim;
	__u32 first;		/* where the search starts within the slice */
	__u32 min;
	__u32 size;
	__u32 found;
};

static long try_port(__u32 index, struct port_search *search)
{
	__u32 one = 1;
	long failed;

	if (!search->size)
		return 1;
	search->claim.nat_port = search->min + (search->first + index) % search->size;
	failed = table_put(&nat_claims, &search->claim, &one, BPF_NOEXIST);
	if (failed == -EEXIST)
		return 0;
	search->found = failed ? 2 : 1;
	return 1;
}

/*
 * The mapping that is there already: its port, if it is free towards this destination. What is read of the mapping is
 * its own if its users, among whom this flow is then, could be counted up from what they were before.
 */
static __always_inline int reuse_mapping(struct scratch *scratch, struct nat_mapping *mapping)
{
	__u64 word = read_word(users_of(mapping));
	__u32 one = 1;
	long failed;

	scratch->flow.address = mapping->address;
	scratch->flow.new_port = mapping->port;
	if (bpf_map_lookup_elem(&nat_mappings, &scratch->mapping_key) != mapping)
		return drop(DROP_FLOW_RACE);
	claim_key_of(&scratch->claim_key, &scratch->key, scratch->flow.address, scratch->flow.new_port);
	failed = table_put(&nat_claims, &scratch->claim_key, &one, BPF_NOEXIST);
	if (failed)
		return drop(failed == -EEXIST ? DROP_NAT_PORTS : DROP_NAT_TABLE);
	/* Without users it is about to go; the next packet makes a new one. */
	if (!USERS(word) || !replaced(users_of(mapping), word, word + ONE_USER)) {
		table_take(&nat_claims, &scratch->claim_key);
		return drop(DROP_FLOW_RACE);
	}
	return NEXT;
}

/* May a guest whose slice is nearly used up have so many more ports looked at? */
static __always_inline int may_search(__u32 number, __u32 tries)
{
	__u64 *full_at = bpf_map_lookup_elem(&nat_searches, &number);

	return full_at && take(full_at, (__u64)tries * TRY_COST, SEARCH_DEPTH);
}

static __always_inline int claim_port(struct scratch *scratch, const struct port *port, __u32 number)
{
	/* Read once: the slice may go while a port is looked for. */
	const __u32 min = *(const volatile __u16 *)&port->nat_min, max = *(const volatile __u32 *)&port->nat_max;
	struct port_search search = { .first = hash_nat(&scratch->mapping_key), .min = min, .size = max - min };

	claim_key_of(&search.claim, &scratch->key, *(const volatile __be32 *)&port->nat, 0);
	if (max <= min || !search.claim.nat)
		return drop(DROP_NAT_PORTS);
	bpf_loop(search.size < FREE_TRIES ? search.size : FREE_TRIES, try_port, &search, 0);
	if (!search.found && search.size > FREE_TRIES && may_search(number, search.size - FREE_TRIES)) {
		search.first += FREE_TRIES;
		bpf_loop(search.size - FREE_TRIES, try_port, &search, 0);
	}
	if (search.found != 1)
		return drop(search.found ? DROP_NAT_TABLE : DROP_NAT_PORTS);
	scratch->claim_key = search.claim;
	scratch->flow.address = search.claim.nat;
	scratch->flow.new_port = search.claim.nat_port;
	return NEXT;
}

static __always_inline int make_mapping(struct scratch *scratch, const struct port *port, __u32 number)
{
	const struct settings *own = get_settings();
	struct usage *used = usage_of(scratch->owner);
	struct nat_mapping fresh = { .owner = scratch->owner, .users = 1, .born = bpf_ktime_get_ns() >> 10 };
	long failed;

	if (!own || !used)
		return drop(DROP_NAT_TABLE);
	if (count_up(&used->nat_ports) >= own->nat_quota) {
		count_down(&used->nat_ports);
		return drop(DROP_NAT_QUOTA);
	}
	if (claim_port(scratch, port, number) != NEXT) {
		count_down(&used->nat_ports);
		return TC_ACT_SHOT;
	}
	fresh.address = scratch->flow.address;
	fresh.port = scratch->flow.new_port;
	failed = table_put(&nat_mappings, &scratch->mapping_key, &fresh, BPF_NOEXIST);
	if (failed) {
		count_down(&used->nat_ports);
		table_take(&nat_claims, &scratch->claim_key);
		return drop(failed == -EEXIST ? DROP_FLOW_RACE : DROP_NAT_TABLE);
	}
	return NEXT;
}

/* Is a mapping one that the port's slice would give? An interface that had the address before had another slice. */
static __always_inline int is_of_slice(const struct nat_mapping *mapping, const struct port *port, __u32 owner)
{
	return mapping->owner == owner && mapping->address == port->nat && mapping->port >= port->nat_min &&
	       mapping->port < port->nat_max;
}

/* The mapping of scratch->mapping_key, if it still counts. */
static __always_inline struct nat_mapping *find_mapping(struct scratch *scratch, const struct port *port)
{
	struct nat_mapping *found = bpf_map_lookup_elem(&nat_mappings, &scratch->mapping_key);
	struct usage *used;
	__u64 word;

	if (!found || is_of_slice(found, port, scratch->owner))
		return found;
	word = read_word(users_of(found));
	used = usage_of(found->owner);
	/* Taken from its users, if there are any: else somebody removes it just now. */
	if (USERS(word) && bpf_map_lookup_elem(&nat_mappings, &scratch->mapping_key) == found &&
	    replaced(users_of(found), word, word - USERS(word)) &&
	    !table_take(&nat_mappings, &scratch->mapping_key) && used)
		count_down(&used->nat_ports);
	return 0;
}

/* Chooses scratch->flow's public address and port for scratch->key, and holds them. */
__weak __noinline int hold_nat_port(struct __sk_buff *skb, __u32 number)
{
	struct scratch *scratch = get_scratch();
	const struct port *port = get_port(number);
	struct nat_mapping *mapping;

	if (!scratch || !port)
		return drop(DROP_NAT_TABLE);
	nat_key_of(&scratch->mapping_key, &scratch->key);
	mapping = find_mapping(scratch, port);
	STEP(mapping ? reuse_mapping(scratch, mapping) : make_mapping(scratch, port, number));
	scratch->flow.rewrite |= REWRITE_SOURCE | REWRITE_PORT;
	scratch->flow.flags |= FLOW_HOLDS_PORT;
	scratch->flow.kind = FLOW_NAT;
	return NEXT;
}

/* Who owns a port of a shared public address, if that is another host. */
static __always_inline const struct neighbor *find_neighbor(__u32 vni, __be32 address, __u16 port)
{
	struct neighbor_key key = {
		.prefixlen = 64 + 16, .vni = bpf_htonl(vni), .address = address, .port = bpf_htons(port),
	};

	return bpf_map_lookup_elem(&neighbors, &key);
}

static __always_inline const struct public_address *find_public(__u32 vni, __be32 address)
{
	struct public_key key = { .vni = vni, .address = address };

	return bpf_map_lookup_elem(&publics, &key);
}
