// SPDX-License-Identifier: Apache-2.0
/* Run by the daemon: walks the flow table and removes what has expired or what a change has made wrong. */
#include "maps.h"
#include "flow.h"
#include "session.h"

#define GRACE 2	/* ticks: who found an entry before it expired is done with it by then, a quarter of a second later */

static __always_inline int is_wanted(const struct sweep *sweep, const struct flow_key *key, const struct flow *flow)
{
	switch (sweep->kind) {
	case SWEEP_PORT:
		return key->side == SIDE_GUEST + sweep->port || key->side == SIDE_TUNNEL + sweep->port ||
		       (flow->hop == HOP_PORT && flow->port == sweep->port) || flow->owner == sweep->port + 1;
	case SWEEP_VIP:
		return flow->kind == FLOW_VIP && (flow->owner == sweep->port + 1 ||
						  (flow->hop == HOP_PORT && flow->port == sweep->port));
	case SWEEP_NAT:
		return flow->kind == FLOW_NAT && flow->owner == sweep->port + 1;
	case SWEEP_DESTINATION:
		return flow->flags & FLOW_PRIMARY && key->vni == sweep->vni && !key->destination_is_ipv6 &&
		       key->destination[0] == sweep->address;
	case SWEEP_DESTINATION6:
		return flow->flags & FLOW_PRIMARY && key->vni == sweep->vni && key->destination_is_ipv6 &&
		       key->destination[0] == sweep->underlay.word[0] && key->destination[1] == sweep->underlay.word[1] &&
		       key->destination[2] == sweep->underlay.word[2] && key->destination[3] == sweep->underlay.word[3];
	case SWEEP_UNTRANSLATED:
		if (!(flow->flags & FLOW_PRIMARY) || !(flow->flags & FLOW_PUBLIC) || flow->rewrite ||
		    key->side != SIDE_GUEST + sweep->port)
			return 0;
		if (!key->source_is_ipv6)
			return key->source[0] == sweep->address;
		return sweep->min && key->destination[0] == bpf_htonl(NAT64_WORD) &&
		       !(key->destination[1] | key->destination[2]);
	case SWEEP_NEIGHBOR:
		return flow->kind == FLOW_NEIGHBOR && key->vni == sweep->vni && key->destination[0] == sweep->address &&
		       key->destination_port >= sweep->min && key->destination_port < sweep->max;
	case SWEEP_UNDERLAY:
		return flow->kind == FLOW_BALANCER && flow->underlay.half[0] == sweep->underlay.half[0] &&
		       flow->underlay.half[1] == sweep->underlay.half[1];
	}
	return 0;
}

/* Expired in both directions, or of a port that began anew. */
static __always_inline int is_over(const struct flow_key *key, struct flow *flow, __u32 now)
{
	struct flow_key peer_key;
	const struct flow *peer;

	if (flow->epoch != current_epoch(key, flow))
		return 1;
	if (!is_expired(flow, now))
		return 0;
	if (!(flow->flags & FLOW_HAS_PEER))
		return 1;
	make_peer_key(&peer_key, key, flow);
	peer = bpf_map_lookup_elem(&flows, &peer_key);
	return !peer || !is_pair(flow, peer) || is_expired(peer, now);
}

static long look_at_flow(void *map, struct flow_key *key, struct flow *flow, struct sweep *sweep)
{
	struct flow_key copy = *key;

	sweep->flows++;
	if (sweep->kind == SWEEP_EXPIRED ? !is_over(&copy, flow, sweep->now - GRACE) : !is_wanted(sweep, &copy, flow))
		return 0;
	remove_pair(&copy);
	sweep->removed++;
	return 0;
}

/* Frees the source ports of virtual services that nobody has any more. */
static long look_at_session(void *map, struct source_port_key *place, struct session *session, __u32 *now)
{
	struct source_port_key copy = *place;

	if (!is_alive(session, *now))
		end_session(&copy, session);
	return 0;
}

SEC("syscall")
int sweep_flows(struct sweep *sweep)
{
	struct sweep copy = *sweep;
	__u32 now;

	copy.flows = 0;
	copy.removed = 0;
	bpf_for_each_map_elem(&flows, look_at_flow, &copy, 0);
	if (copy.kind == SWEEP_EXPIRED) {
		now = copy.now - GRACE;
		bpf_for_each_map_elem(&source_ports, look_at_session, &now, 0);
	}
	sweep->flows = copy.flows;
	sweep->removed = copy.removed;
	return 0;
}
