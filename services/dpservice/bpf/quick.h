/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fast path's look at a packet: headers without options, whole datagrams, TCP that changes no state, echoes. What
 * is not of that kind goes the slow way, which knows all kinds.
 */
#pragma once

#include "flow.h"
#include "rewrite.h"

struct quick {
	__u32 length;		/* of the IP packet */
	__u32 is_ipv6;
	union {
		struct shortcut_key raw;	/* of a packet that took a shortcut */
		struct flow_key key;		/* of one whose flow was looked up */
	};
};

/* Returns 0 and fills ports and protocol of the key, or 1: the slow way. `head` is layer 4. */
static __always_inline int quick_layer4(struct flow_key *key, __u8 protocol, const void *head, const void *end)
{
	key->protocol = protocol;
	if (protocol == IPPROTO_TCP) {
		const struct tcphdr *tcp = head;

		if ((void *)tcp + 14 > end || ((const __u8 *)tcp)[13] & (TCP_SYN | TCP_FIN | TCP_RST))
			return 1;
		key->source_port = bpf_ntohs(tcp->source);
		key->destination_port = bpf_ntohs(tcp->dest);
		return 0;
	}
	if (head + 8 > end)
		return 1;
	if (protocol == IPPROTO_UDP) {
		const struct udphdr *udp = head;

		key->source_port = bpf_ntohs(udp->source);
		key->destination_port = bpf_ntohs(udp->dest);
		return key->destination_port == PORT_DHCP_SERVER || key->destination_port == PORT_DHCP6_SERVER;
	}
	if (is_icmp(protocol)) {
		const struct icmp6hdr *icmp = head;

		key->source_port = icmp->icmp6_type;
		key->destination_port = bpf_ntohs(icmp->icmp6_identifier);
		return icmp->icmp6_type != ICMP_ECHO && icmp->icmp6_type != ICMP_ECHOREPLY && icmp->icmp6_type != ICMPV6_ECHO_REQUEST &&
		       icmp->icmp6_type != ICMPV6_ECHO_REPLY;
	}
	return 1;
}

static __always_inline int quick_ipv4(struct __sk_buff *skb, __u32 start, struct quick *quick)
{
	struct flow_key *key = &quick->key;
	const struct iphdr *ip = (void *)(long)skb->data + start;
	const void *end = (void *)(long)skb->data_end;

	if ((void *)(ip + 1) > end || ip->ihl != 5 || ip->version != 4 || ip->frag_off & bpf_htons(0x3fff))
		return 1;
	quick->length = bpf_ntohs(ip->tot_len);
	quick->is_ipv6 = 0;
	if (quick->length < sizeof(*ip) + 8 || quick->length + start > skb->len)
		return 1;
	key->destination[0] = bpf_ntohl(ip->daddr);
	key->destination[1] = key->destination[2] = key->destination[3] = 0;
	key->source[0] = bpf_ntohl(ip->saddr);
	key->source[1] = key->source[2] = key->source[3] = 0;
	key->destination_is_ipv6 = key->source_is_ipv6 = 0;
	if (ip->protocol == IPPROTO_ICMPV6 || (ip->protocol == IPPROTO_TCP && quick->length < sizeof(*ip) + 20))
		return 1;
	return quick_layer4(key, ip->protocol, ip + 1, end);
}

static __always_inline int quick_ipv6(struct __sk_buff *skb, __u32 start, struct quick *quick)
{
	struct flow_key *key = &quick->key;
	const struct ipv6hdr *ip = (void *)(long)skb->data + start;
	const void *end = (void *)(long)skb->data_end;

	if ((void *)(ip + 1) > end || ip->version != 6)
		return 1;
	quick->length = bpf_ntohs(ip->payload_len) + sizeof(*ip);
	quick->is_ipv6 = 1;
	if (quick->length < sizeof(*ip) + 8 || quick->length + start > skb->len)
		return 1;
	__builtin_memcpy(key->destination, &ip->daddr, sizeof(key->destination));
	__builtin_memcpy(key->source, &ip->saddr, sizeof(key->source));
	key->destination_is_ipv6 = key->source_is_ipv6 = 1;
	if (ip->nexthdr == IPPROTO_ICMP || (ip->nexthdr == IPPROTO_TCP && quick->length < sizeof(*ip) + 20))
		return 1;
	return quick_layer4(key, ip->nexthdr, ip + 1, end);
}

/* Returns 0 and the key of the packet at `start`, whose EtherType is `type`, or 1: the slow way. */
static __always_inline int quick_key(struct __sk_buff *skb, __u32 start, __be16 type, struct quick *quick)
{
	quick->key.discriminator = 0;
	if (type == bpf_htons(ETH_P_IP))
		return quick_ipv4(skb, start, quick);
	if (type == bpf_htons(ETH_P_IPV6))
		return quick_ipv6(skb, start, quick);
	return 1;
}

/* The flow of a packet if nothing about it has to be decided anew. */
static __always_inline struct flow *quick_flow(const struct flow_key *key)
{
	struct flow *flow = bpf_map_lookup_elem(&flows, key);

	if (!flow || is_expired(flow, now_ticks()) || flow->revision != current_revision(flow->bucket) ||
	    flow->epoch != current_epoch(key, flow))
		return 0;
	/* The next segment may end the handshake. */
	if (flow->tcp == TCP_NEW_SYNACK)
		return 0;
	return flow;
}

/* Returns 0 and length and key of a packet that may have a shortcut; else 1. */
static __always_inline int shortcut_key(struct __sk_buff *skb, __u32 start, __be16 type, struct quick *quick)
{
	const struct iphdr *ip = (void *)(long)skb->data + start;
	const void *end = (void *)(long)skb->data_end;
	const __u8 *head = (void *)(ip + 1);

	if (type != bpf_htons(ETH_P_IP) || (void *)(head + 8) > end || *(const __u8 *)ip != 0x45 ||
	    ip->frag_off & bpf_htons(0x3fff))
		return 1;
	quick->length = bpf_ntohs(ip->tot_len);
	if (quick->length + start > skb->len)
		return 1;
	if (ip->protocol == IPPROTO_TCP) {
		if (quick->length < sizeof(*ip) + sizeof(struct tcphdr) || (void *)(head + 14) > end ||
		    head[13] & (TCP_SYN | TCP_FIN | TCP_RST))
			return 1;
	} else if (quick->length < sizeof(*ip) + sizeof(struct udphdr)) {
		return 1;
	}
	quick->raw.source = ip->saddr;
	quick->raw.destination = ip->daddr;
	quick->raw.ports = *(const __be32 *)head;
	quick->raw.place = shortcut_place(0, ip->protocol);	/* other protocols have none */
	return 0;
}

/*
 * Copies the shortcut of a packet that enters at `side`, if it has one that holds. The ports' epochs are left to the
 * caller.
 */
static __always_inline int find_shortcut(struct __sk_buff *skb, __u32 start, __be16 type, __u32 vni, __u32 side,
					 struct quick *quick, struct way *way)
{
#ifndef DRY_RUN
	if (shortcut_key(skb, start, type, quick))
		return 0;
	quick->raw.vni = vni;
	quick->raw.place |= side;
	if (!read_shortcut(&quick->raw, way))
		return 0;
	return (__s32)(way->until - now_ticks()) >= 0 && way->revision == current_revision(way->bucket);
#else
	return 0;
#endif
}

/* Puts the new address and port of a packet's flow into it. `shortcut`: the packet took one. */
static __always_inline int rewrite_quickly(struct __sk_buff *skb, const struct quick *quick, const struct way *way,
					   int shortcut)
{
	const int source = way->rewrite & REWRITE_SOURCE;
	const __be16 *ports = (const __be16 *)&quick->raw.ports;
	struct rewriting rewriting = { .rewrite = way->rewrite, .address = way->address, .port = bpf_htons(way->new_port) };

	if (shortcut) {
		rewriting.old_address = source ? quick->raw.source : quick->raw.destination;
		rewriting.old_port = source ? ports[0] : ports[1];
		rewriting.protocol = quick->raw.place >> 24;
	} else {
		take_old(&rewriting, &quick->key);
	}
	return rewrite_ipv4(skb, &rewriting, ETH_HLEN + sizeof(struct iphdr));
}

/* What a shortcut says of its flow. */
static __always_inline void describe_way(struct way *way, const struct flow *flow)
{
	way->until = flow->expires - timeout_of(flow);
	way->revision = flow->revision;
	way->epoch = flow->epoch;
	way->bucket = flow->bucket;
	way->hop = flow->hop;
	way->rewrite = flow->rewrite;
	way->uplink = flow->uplink;
	way->is_public = !!(flow->flags & FLOW_PUBLIC);
	way->port = flow->port;
	way->new_port = flow->new_port;
	way->address = flow->address;
	way->underlay = flow->underlay;
}

static __always_inline int is_idle(const struct shortcut *shortcut, __u32 now)
{
	return !shortcut->key.place || (__s32)(shortcut->way.until - now) < 0;
}

static __always_inline struct shortcut *idle_place(struct shortcut_pair *pair, __u32 now)
{
	if (is_idle(&pair->place[0], now))
		return &pair->place[0];
	return is_idle(&pair->place[1], now) ? &pair->place[1] : 0;
}

/* Where a flow's shortcut is to be; 0: all places are taken, and it is not the time to take one over. */
static __always_inline struct shortcut *choose_place(const struct shortcut_key *key, __u32 now)
{
	const __u64 mixed = mixed_key(key);
	struct shortcut_pair *near = near_pair(key, mixed), *far = far_pair(mixed);
	struct shortcut *place;
	__u32 turn;

	if (!near || !far)
		return 0;
	if ((place = place_of(near, key, &turn)) || (place = place_of(far, key, &turn)) ||
	    (place = idle_place(near, now)) || (place = idle_place(far, now)))
		return place;
	if ((now ^ key->ports >> 16) & 7)
		return 0;
	return now & 8 ? &far->place[0] : &far->place[1];
}

/* Makes a shortcut for a flow that quick_flow() found. */
__weak __noinline int make_shortcut(const struct flow_key *flow_key, const struct flow *flow)
{
#ifndef DRY_RUN
	struct shortcut_key key;
	struct shortcut *shortcut;
	const struct flow *again;
	__u32 revision;
	__u8 tcp;

	if (!flow_key || !flow || shortcut_key_of(&key, flow_key))
		return 0;
	if ((flow->hop != HOP_PORT && flow->hop != HOP_REMOTE) || flow->rewrite & (REWRITE_6TO4 | REWRITE_4TO6) ||
	    has_third_port(flow))
		return 0;
	shortcut = choose_place(&key, now_ticks());
	if (!shortcut || !begin_writing(shortcut))
		return 0;
	tcp = flow->tcp;
	revision = flow->revision;
	shortcut->key = key;
	describe_way(&shortcut->way, flow);
	shortcut->way.revision = revision;
	end_writing(shortcut);
	/* Who removed or changed the flow meanwhile may have seen no shortcut to take away. */
	again = bpf_map_lookup_elem(&flows, flow_key);
	if (again != flow || again->tcp != tcp || again->revision != revision)
		forget_shortcut(flow_key);
#endif
	return 0;
}

/* A packet goes the way of its flow. */
static __always_inline void use_flow(const struct flow_key *key, struct flow *flow)
{
	step(FLOW_FOUND, flow->kind, flow->hop);
	prolong(key, flow, now_ticks());
	make_shortcut(key, flow);
}
