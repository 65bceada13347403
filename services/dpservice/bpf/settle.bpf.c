// SPDX-License-Identifier: Apache-2.0
/*
 * Run by the daemon when it takes over from another one: makes NAT ports and usage, which begins at zero, what the
 * flows say, and counts sessions with virtual services. No packet may use the tables meanwhile.
 */
#include "maps.h"
#include "flow.h"
#include "takeover.h"

static __always_inline int count_user(const struct flow_key *key, const struct flow *flow)
{
	struct nat_mapping fresh = {
		.address = flow->address, .port = flow->new_port, .owner = flow->owner, .users = 1,
	};
	struct nat_mapping *found;
	struct nat_key mapping;
	struct usage *used;

	nat_key_of(&mapping, key);
	found = bpf_map_lookup_elem(&nat_mappings, &mapping);
	if (found) {
		if (found->address == fresh.address && found->port == fresh.port)
			found->users++;
		return 0;
	}
	if (bpf_map_update_elem(&nat_mappings, &mapping, &fresh, BPF_NOEXIST))
		return -1;
	used = usage_of(fresh.owner);
	if (used)
		used->nat_ports++;
	return 0;
}

static long settle_flow(void *map, struct flow_key *key, struct flow *flow, struct settlement *settlement)
{
	struct flow_key copy = *key;
	struct claim_key claim;
	struct usage *used;
	__u32 one = 1;

	if (settlement->only_marked && !flow->mark) {
		bpf_map_delete_elem(&flows, &copy);
		return 0;
	}
	flow->mark = 0;
	flow->life &= ~(__u64)LIFE_ENDING;	/* it was copied while somebody was about to remove it */
	if (!(flow->flags & FLOW_PRIMARY))
		return 0;
	settlement->flows++;
	used = usage_of(flow->owner);
	if (used)
		used->flows++;
	if (!(flow->flags & FLOW_HOLDS_PORT))
		return 0;
	claim_key_of(&claim, &copy, flow->address, flow->new_port);
	if (bpf_map_update_elem(&nat_claims, &claim, &one, BPF_ANY) || count_user(&copy, flow))
		settlement->failed++;
	return 0;
}

/* Counts begin at zero, as usage does. */
static long count_session(void *map, struct source_port_key *place, struct session *session, void *unused)
{
	__u32 guest = session->guest;
	__u32 *held = bpf_map_lookup_elem(&session_counts, &guest);

	if (held)
		(*held)++;
	return 0;
}

SEC("syscall")
int settle_flows(struct settlement *settlement)
{
	struct settlement found = { .only_marked = settlement->only_marked };

	empty_table(&nat_mappings);
	empty_table(&nat_claims);
	bpf_for_each_map_elem(&flows, settle_flow, &found, 0);
	bpf_for_each_map_elem(&source_ports, count_session, 0, 0);
	*settlement = found;
	return 0;
}
