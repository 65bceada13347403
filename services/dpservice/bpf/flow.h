/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flow table. Each direction of a flow has an entry of its own, found by what a packet says of itself and by where
 * it enters; so an entry never counts for packets that come in elsewhere.
 */
#pragma once

#include <linux/errno.h>

#include "hash.h"
#include "parse.h"
#include "shortcut.h"

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

/* Between addresses of packets and those of keys, where IPv4 is an integer. */
static __always_inline void key_address(__u32 *to, const union address6 *from, __u8 is_ipv6)
{
	to[0] = is_ipv6 ? from->word[0] : bpf_ntohl(from->word[0]);
	to[1] = from->word[1];
	to[2] = from->word[2];
	to[3] = from->word[3];
}

static __always_inline void packet_address(union address6 *to, const __u32 *from, __u8 is_ipv6)
{
	to->word[0] = is_ipv6 ? from[0] : bpf_htonl(from[0]);
	to->word[1] = from[1];
	to->word[2] = from[2];
	to->word[3] = from[3];
}

static __always_inline void make_key(struct flow_key *key, const struct packet *packet, __u32 vni, __u32 side)
{
	key_address(key->destination, &packet->destination, packet->is_ipv6);
	key->destination_is_ipv6 = packet->is_ipv6;
	key->protocol = packet->protocol;
	key->destination_port = packet->destination_port;
	key_address(key->source, &packet->source, packet->is_ipv6);
	key->source_is_ipv6 = packet->is_ipv6;
	key->discriminator = 0;
	key->source_port = packet->source_port;
	key->vni = vni;
	key->side = side;
}

static __always_inline int is_icmp(__u8 protocol)
{
	return protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6;
}

/* The type of the answer to an ICMP message, or the same for those that have none. */
static __always_inline __u16 answering_type(__u8 protocol, __u16 type)
{
	if (protocol == IPPROTO_ICMPV6)
		return type == ICMPV6_ECHO_REQUEST || type == ICMPV6_ECHO_REPLY ? type ^ 1 : type;
	switch (type) {
	case ICMP_ECHO:
		return ICMP_ECHOREPLY;
	case ICMP_ECHOREPLY:
		return ICMP_ECHO;
	case ICMP_TIMESTAMP:
		return ICMP_TIMESTAMPREPLY;
	case ICMP_TIMESTAMPREPLY:
		return ICMP_TIMESTAMP;
	}
	return type;
}

#define NAT64_WORD 0x0064ff9b	/* 64:ff9b::/96, RFC 6052 */

/* NAT64: the same addresses and protocol in the other family. */
static __always_inline void cross_families(struct flow_key *peer, const struct flow_key *key, const struct flow *flow)
{
	const int to_ipv6 = flow->rewrite & REWRITE_4TO6;

	if (is_icmp(key->protocol)) {
		peer->protocol = to_ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
		/* Echoes only: 8 and 0 are 128 and 129. `peer` has the answering type of the old family by now. */
		if (to_ipv6)
			peer->source_port = peer->source_port == ICMP_ECHO ? ICMPV6_ECHO_REQUEST : ICMPV6_ECHO_REPLY;
		else
			peer->source_port = peer->source_port == ICMPV6_ECHO_REQUEST ? ICMP_ECHO : ICMP_ECHOREPLY;
	}
	peer->destination_is_ipv6 = peer->source_is_ipv6 = !!to_ipv6;
	if (to_ipv6) {
		peer->destination[3] = bpf_htonl(key->source[0]);
		peer->destination[0] = bpf_htonl(NAT64_WORD);
		peer->destination[1] = peer->destination[2] = 0;
		peer->source[0] = flow->underlay.word[0];
		peer->source[1] = flow->underlay.word[1];
		peer->source[2] = flow->underlay.word[2];
		peer->source[3] = flow->underlay.word[3];
		return;
	}
	peer->source[0] = bpf_ntohl(key->destination[3]);
	peer->source[1] = peer->source[2] = peer->source[3] = 0;
	peer->destination[0] = bpf_ntohl(flow->address);
	peer->destination[1] = peer->destination[2] = peer->destination[3] = 0;
}

/* The key of the other direction: what an answer to the rewritten packet says of itself. */
static __always_inline void make_peer_key(struct flow_key *peer, const struct flow_key *key, const struct flow *flow)
{
	const int icmp = is_icmp(key->protocol);

	__builtin_memcpy(peer->destination, key->source, sizeof(peer->destination));
	__builtin_memcpy(peer->source, key->destination, sizeof(peer->source));
	peer->destination_is_ipv6 = key->source_is_ipv6;
	peer->source_is_ipv6 = key->destination_is_ipv6;
	peer->protocol = key->protocol;
	peer->discriminator = 0;
	peer->vni = key->vni;
	peer->side = flow->peer_side;
	peer->destination_port = icmp ? key->destination_port : key->source_port;
	peer->source_port = icmp ? answering_type(key->protocol, key->source_port) : key->destination_port;
	if (flow->rewrite & (REWRITE_6TO4 | REWRITE_4TO6))
		cross_families(peer, key, flow);
	else if (flow->rewrite & REWRITE_SOURCE)
		peer->destination[0] = bpf_ntohl(flow->address);
	else if (flow->rewrite & REWRITE_DESTINATION)
		peer->source[0] = bpf_ntohl(flow->address);
	if (flow->rewrite & REWRITE_PORT) {
		if (icmp || flow->rewrite & REWRITE_SOURCE)
			peer->destination_port = flow->new_port;
		else
			peer->source_port = flow->new_port;
	}
}

/* A word that others write meanwhile, read once. */
static __always_inline __u64 read_word(const __u64 *place)
{
	return *(const volatile __u64 *)place;
}

static __always_inline int same_key(const struct flow_key *a, const struct flow_key *b)
{
	const __u32 *one = (const __u32 *)a, *other = (const __u32 *)b;
	__u32 i, difference = 0;

#pragma unroll
	for (i = 0; i < sizeof(*a) / sizeof(*one); i++)
		difference |= one[i] ^ other[i];
	return !difference;
}

/* The usage that a flow is charged to. */
static __always_inline struct usage *usage_of(__u32 owner)
{
	return bpf_map_lookup_elem(&usage, &owner);
}

static __always_inline void nat_key_of(struct nat_key *mapping, const struct flow_key *key)
{
	__u16 port = is_icmp(key->protocol) ? key->destination_port : key->source_port;

	mapping->vni = key->vni;
	__builtin_memcpy(mapping->address, key->source, sizeof(mapping->address));
	mapping->port = key->source_is_ipv6 | (__u32)port << 8;
}

static __always_inline void claim_key_of(struct claim_key *claim, const struct flow_key *key, __be32 nat, __u16 port)
{
	claim->nat = nat;
	claim->destination = bpf_htonl(key->destination[0]);
	if (key->destination_is_ipv6)
		claim->destination = key->destination[3];
	claim->nat_port = port;
	claim->destination_port = key->destination_port;
	claim->protocol = key->protocol == IPPROTO_ICMPV6 ? IPPROTO_ICMP : key->protocol;
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
