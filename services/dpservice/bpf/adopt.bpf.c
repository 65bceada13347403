// SPDX-License-Identifier: Apache-2.0
/*
 * Run by the daemon when it takes over from another one on this kernel, whose tables outlive it: copies what is in
 * them. First everything, while no packet uses the tables here; then, when our programs are in the place of the other's,
 * what packets made there in between.
 */
#include "maps.h"
#include "counterpart.h"
#include "flow.h"
#include "takeover.h"

OTHER_TABLE(other_flows, struct flow_key, struct flow);

/* A flow in both directions: too much for the stack. There is one adoption at a time. */
struct adopted {
	struct flow_key key;
	struct flow_key peer_key;
	struct flow flow;
	struct flow peer;
	struct claim_key claim;
	struct nat_key mapping;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct adopted);
} adopted_scratch SEC(".maps");

static __always_inline struct adopted *get_adopted(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&adopted_scratch, &zero);
}

/* Makes an entry of the other data plane one of ours; 0: its ports are not here, or it has ended with theirs. */
__weak __noinline int translate(struct flow_key *key, struct flow *flow)
{
	__u32 epoch = 0, unused = 0, port, owner, peer_side;
	int is_third;

	if (!key || !flow)
		return 0;
	is_third = has_third_port(flow);	/* see current_epoch() */
	if (key->side < SIDE_VIP && !translate_port(&key->side, &epoch))
		return 0;
	if (flow->hop == HOP_PORT) {
		port = flow->port;
		if (!translate_port(&port, &epoch))
			return 0;
		flow->port = port;
	}
	peer_side = flow->peer_side;
	if (flow->flags & FLOW_HAS_PEER && peer_side < SIDE_VIP) {
		if (!translate_port(&peer_side, is_third ? &epoch : &unused))
			return 0;
		flow->peer_side = peer_side;
	}
	if (flow->owner) {
		owner = flow->owner - 1;
		if (!translate_port(&owner, &unused))
			return 0;
		flow->owner = owner + 1;
	}
	if (flow->epoch != epoch)
		return 0;
	flow->epoch = current_epoch(key, flow);
	flow->revision = current_revision(flow->bucket) - 1;	/* its routes are looked up again */
	return 1;
}

/* The entry of the same key is what the other data plane has. */
static __always_inline void adopt_entry(struct adopted *adopted, struct adoption *adoption)
{
	struct flow *found;

	adopted->flow.life &= ~(__u64)LIFE_ENDING;
	adopted->flow.mark = 1;
	found = bpf_map_lookup_elem(&flows, &adopted->key);
	if (found)
		*found = adopted->flow;
	else if (bpf_map_update_elem(&flows, &adopted->key, &adopted->flow, BPF_NOEXIST))
		adoption->failed++;
	else
		adoption->added++;
}

/* Holds the NAT port that a flow has, see reuse_mapping() and make_mapping(); 0: somebody else has it, or no room. */
static __always_inline int hold_same_port(struct adopted *adopted)
{
	const struct flow *flow = &adopted->flow;
	struct nat_mapping fresh = { .address = flow->address, .port = flow->new_port, .owner = flow->owner, .users = 1 };
	struct usage *used = usage_of(flow->owner);
	struct nat_mapping *found;
	__u32 one = 1;
	__u64 word;

	claim_key_of(&adopted->claim, &adopted->key, flow->address, flow->new_port);
	if (!used || bpf_map_update_elem(&nat_claims, &adopted->claim, &one, BPF_NOEXIST))
		return 0;
	nat_key_of(&adopted->mapping, &adopted->key);
	found = bpf_map_lookup_elem(&nat_mappings, &adopted->mapping);
	if (!found) {
		fresh.born = bpf_ktime_get_ns() >> 10;
		if (!bpf_map_update_elem(&nat_mappings, &adopted->mapping, &fresh, BPF_NOEXIST)) {
			count_up(&used->nat_ports);
			return 1;
		}
	} else {
		word = read_word(users_of(found));
		if (found->address == flow->address && found->port == flow->new_port && USERS(word) &&
		    bpf_map_lookup_elem(&nat_mappings, &adopted->mapping) == found &&
		    replaced(users_of(found), word, word + ONE_USER))
			return 1;
	}
	bpf_map_delete_elem(&nat_claims, &adopted->claim);
	return 0;
}

/* Puts a flow in that is not here; both directions or none. */
static __always_inline void add_flow(struct adopted *adopted, struct adoption *adoption)
{
	const struct flow *flow = &adopted->flow;
	struct usage *used = usage_of(flow->owner);

	if (!used || (flow->flags & FLOW_HOLDS_PORT && !hold_same_port(adopted))) {
		adoption->failed++;
		return;
	}
	count_up(&used->flows);
	if (bpf_map_update_elem(&flows, &adopted->key, flow, BPF_NOEXIST)) {
		count_down(&used->flows);
		if (flow->flags & FLOW_HOLDS_PORT)
			release_port(&adopted->key, flow->address, flow->new_port);
		adoption->failed++;
		return;
	}
	if (flow->flags & FLOW_HAS_PEER &&
	    bpf_map_update_elem(&flows, &adopted->peer_key, &adopted->peer, BPF_NOEXIST)) {
		remove_flow(&adopted->key, flow->life);
		adoption->failed++;
		return;
	}
	adoption->added++;
}

/* One that is here has gone on there, until ours was in its place: TCP's states only grow but for a new connection. */
static __always_inline void follow_tcp(struct adopted *adopted, struct flow *found, struct adoption *adoption)
{
	if (!((found->life ^ adopted->flow.life) >> LIFE_SHIFT) && found->tcp < adopted->flow.tcp)
		change_tcp(&adopted->key, found, adopted->flow.tcp, adoption->now);
}

static long adopt_flow(void *map, struct flow_key *key, struct flow *flow, struct adoption *adoption)
{
	struct adopted *adopted = get_adopted();
	const struct flow *peer;
	struct flow *found;

	if (!adopted)
		return 1;
	adoption->seen++;
	adopted->key = *key;
	adopted->flow = *flow;
	if (bpf_map_lookup_elem(map, &adopted->key) != flow)
		return 0;	/* it has become another one's while it was read */
	if (!adoption->missing_only) {
		if (translate(&adopted->key, &adopted->flow))
			adopt_entry(adopted, adoption);
		return 0;
	}
	if (!(adopted->flow.flags & FLOW_PRIMARY) || adopted->flow.life & LIFE_ENDING ||
	    is_expired(&adopted->flow, adoption->now))
		return 0;
	if (adopted->flow.flags & FLOW_HAS_PEER) {
		make_peer_key(&adopted->peer_key, &adopted->key, &adopted->flow);
		peer = bpf_map_lookup_elem(map, &adopted->peer_key);
		if (!peer)
			return 0;
		adopted->peer = *peer;
		if (!is_pair(&adopted->flow, &adopted->peer) || adopted->peer.life & LIFE_ENDING ||
		    !translate(&adopted->peer_key, &adopted->peer))
			return 0;
	}
	if (!translate(&adopted->key, &adopted->flow))
		return 0;
	found = bpf_map_lookup_elem(&flows, &adopted->key);
	if (found)
		follow_tcp(adopted, found, adoption);
	else
		add_flow(adopted, adoption);
	return 0;
}

SEC("syscall")
int adopt_flows(struct adoption *adoption)
{
	void *other = other_table(&other_flows);

	if (!other)
		return 1;
	adopt_table(other, adopt_flow, adoption);
	return 0;
}
