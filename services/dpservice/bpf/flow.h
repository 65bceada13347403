/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flow table. Each direction of a flow has an entry of its own, found by what a packet says of itself and by where
 * it enters; so an entry never counts for packets that come in elsewhere.
 */
#pragma once

#include <linux/errno.h>

#include "flow_end.h"

static __always_inline __u32 now_ticks(void)
{
	return bpf_ktime_get_coarse_ns() >> TICK_SHIFT;
}

static __always_inline int is_expired(const struct flow *flow, __u32 now)
{
	return (__s32)(flow->expires - now) < 0;
}

/*
 * Is `flow` still the entry of `key`? The kernel gives the room of an entry that was removed to another flow at once,
 * whoever may be reading it: what was read of an entry counts if this holds afterwards.
 */
static __always_inline int is_still(const struct flow_key *key, const struct flow *flow)
{
	return bpf_map_lookup_elem(&flows, key) == flow;
}

static __always_inline __u32 timeout_of(const struct flow *flow)
{
	const struct settings *own = get_settings();

	if (!own)
		return 0;
	return flow->tcp == TCP_ESTABLISHED ? own->established_timeout : own->flow_timeout;
}

/* How much longer a flow may live, so that not every packet has to prolong it. */
static __always_inline __u32 slack_of(__u32 timeout)
{
	__u32 slack = timeout >> SLACK_SHIFT;

	return slack < SLACK_MAX ? slack : SLACK_MAX;
}

/* When a flow that was seen now expires. */
static __always_inline __u32 expiry_of(const struct flow *flow, __u32 now)
{
	__u32 timeout = timeout_of(flow);

	return now + timeout + slack_of(timeout);
}

static __always_inline __u32 epoch_of(__u32 number)
{
	const struct port *port = get_port(number);

	return port ? port->epoch : 0;
}

/* Does the entry depend on another guest than the one it leads to? */
static __always_inline int has_third_port(const struct flow *flow)
{
	return flow->flags & FLOW_HAS_PEER && flow->peer_side < SIDE_TUNNEL &&
	       !(flow->hop == HOP_PORT && flow->peer_side == SIDE_GUEST + flow->port);
}

/*
 * The sum of the epochs of the ports that an entry touches: where its packets enter, where they go, and the guest that
 * began the conversation or is its other end, wherever routes lead by now.
 */
static __always_inline __u32 current_epoch(const struct flow_key *key, const struct flow *flow)
{
	const int is_local = flow->hop == HOP_PORT;
	__u32 epoch = 0;

	if (key->side < SIDE_VIP)
		epoch = epoch_of(key->side & 0xffff);
	if (is_local)
		epoch += epoch_of(flow->port);
	if (has_third_port(flow))
		epoch += epoch_of(flow->peer_side);
	return epoch;
}

static __always_inline __u32 current_revision(__u32 bucket)
{
	const __u32 *every, *one;
	__u32 first = 0;

	every = bpf_map_lookup_elem(&revisions, &first);
	one = bpf_map_lookup_elem(&revisions, &bucket);
	return every && one ? *every + *one : 0;
}

/* Routes to addresses with the same first 24 (IPv4) or 64 bits share a bucket; shorter ones count for all. */
static __always_inline __u16 route_bucket(__u32 vni, const union address6 *address, __u8 is_ipv6)
{
	__u32 upper = bpf_ntohl(address->word[0]), mixed;

	upper = is_ipv6 ? upper ^ bpf_ntohl(address->word[1]) * 31 : upper >> 8;
	mixed = vni * 0x9e3779b1 ^ upper * 0x85ebca6b;
	mixed ^= mixed >> 15;
	return 1 + (mixed & (ROUTE_BUCKETS - 1));
}

/* Prolongs the other direction, and brings it the state of TCP. Called once in a while, or when that changes. */
__weak __noinline int touch_peer(const struct flow_key *key, const struct flow *flow)
{
	struct flow_key peer_key;
	struct flow *peer;

	if (!key || !flow)
		return 0;
	make_peer_key(&peer_key, key, flow);
	peer = bpf_map_lookup_elem(&flows, &peer_key);
	if (!peer || !is_pair(flow, peer))
		return 0;
	set(peer->expires, flow->expires);
	if (peer->tcp == flow->tcp)
		return 0;
	set(peer->tcp, flow->tcp);
	forget_shortcut(&peer_key);
	return 0;
}

/* The state of TCP is another one from now on. */
static __always_inline void change_tcp(const struct flow_key *key, struct flow *flow, __u8 tcp, __u32 now)
{
	set(flow->tcp, tcp);
	set(flow->expires, expiry_of(flow, now));
	forget_shortcut(key);
	if (flow->flags & FLOW_HAS_PEER)
		touch_peer(key, flow);
}

/* The flow was seen. */
static __always_inline void prolong(const struct flow_key *key, struct flow *flow, __u32 now)
{
	__u32 timeout = timeout_of(flow), slack = slack_of(timeout);
	__u32 expires = now + timeout + slack;

	if (expires - flow->expires <= slack)
		return;
	set(flow->expires, expires);
	if (flow->flags & FLOW_HAS_PEER)
		touch_peer(key, flow);
}

/* Puts scratch->flow and its other direction into the table; NEXT, or the enum drop_reason that says why not. */
__weak __noinline int insert_flow(struct __sk_buff *skb)
{
	struct scratch *scratch = get_scratch();
	const struct settings *own = get_settings();
	struct usage *used;
	__u32 quota, now = now_ticks();
	long failed;
	__u64 life;

	if (!scratch || !own)
		return DROP_FLOW_TABLE;
	used = usage_of(scratch->owner);
	if (!used)
		return DROP_FLOW_TABLE;
	quota = scratch->owner ? own->flow_quota : own->host_flow_quota;
	life = bpf_ktime_get_ns() << LIFE_SHIFT;
	scratch->flow.owner = scratch->owner;
	scratch->flow.flags |= FLOW_PRIMARY;
	scratch->flow.life = life;
	scratch->flow.expires = expiry_of(&scratch->flow, now);
	scratch->flow.epoch = current_epoch(&scratch->key, &scratch->flow);
	make_peer_key(&scratch->peer_key, &scratch->key, &scratch->flow);
	if (same_key(&scratch->peer_key, &scratch->key))	/* of a guest to itself: one entry serves both ways */
		scratch->flow.flags &= ~FLOW_HAS_PEER;
	if (count_up(&used->flows) >= quota)
		failed = -EDQUOT;
	else
		failed = table_put(&flows, &scratch->key, &scratch->flow, BPF_NOEXIST);
	if (failed) {
		count_down(&used->flows);
		if (scratch->flow.flags & FLOW_HOLDS_PORT)
			release_port(&scratch->key, scratch->flow.address, scratch->flow.new_port);
		return failed == -EDQUOT ? DROP_FLOW_QUOTA : failed == -EEXIST ? DROP_FLOW_RACE : DROP_FLOW_TABLE;
	}
	if (!(scratch->flow.flags & FLOW_HAS_PEER))
		return NEXT;
	remove_pair(&scratch->peer_key);
	scratch->peer.flags |= FLOW_HAS_PEER;
	scratch->peer.owner = scratch->owner;
	scratch->peer.life = life | LIFE_PEER;
	scratch->peer.expires = scratch->flow.expires;
	scratch->peer.tcp = scratch->flow.tcp;
	scratch->peer.kind = scratch->flow.kind;
	scratch->peer.peer_side = scratch->key.side;
	scratch->peer.epoch = current_epoch(&scratch->peer_key, &scratch->peer);
	if (table_put(&flows, &scratch->peer_key, &scratch->peer, BPF_NOEXIST)) {
		remove_flow(&scratch->key, life);
		return DROP_FLOW_TABLE;
	}
	step(FLOW_MADE, scratch->flow.kind, 0);
	return NEXT;
}

/* What a segment makes of the state of its connection; `original`: it goes the way of the first one. */
static __always_inline __u8 next_tcp_state(__u8 state, __u8 flags, int original)
{
	if (flags & TCP_RST)
		return TCP_RST_FIN;
	if (flags & TCP_FIN)
		return state == TCP_ESTABLISHED ? TCP_FINWAIT : TCP_RST_FIN;
	switch (state) {
	case TCP_NONE:
	case TCP_RST_FIN:
		return flags == TCP_SYN ? TCP_NEW_SYN : state;
	case TCP_NEW_SYN:
		return flags == (TCP_SYN | TCP_ACK) && !original ? TCP_NEW_SYNACK : state;
	case TCP_NEW_SYNACK:
		return flags == TCP_ACK && original ? TCP_ESTABLISHED : state;
	}
	return state;
}
