/* SPDX-License-Identifier: Apache-2.0 */
/* IPv4-in-IPv6 and IPv6-in-IPv6 towards another hypervisor: no options, no flow label, hop limit 64. */
#pragma once

#include "route.h"

#define OUTER_HOP_LIMIT 64
#define HOP_LIMIT_AT	(ETH_HLEN + __builtin_offsetof(struct ipv6hdr, hop_limit))

/* FIXED_GSO: the outer header must not cost the guest's connections a part of their segment size. */
#ifndef ENCAPSULATION
#define ENCAPSULATION (BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV6)
#endif

struct outer {
	struct ethhdr ethernet;
	struct ipv6hdr ip;
} __attribute__((packed, aligned(2)));

/* Writes the outer header in front of an IP packet of `length` bytes, into room that is there already. */
static __always_inline int write_outer(struct __sk_buff *skb, const struct uplink *uplink, __u32 length, __u8 is_ipv6,
				       const union address6 *from, const union address6 *to)
{
	struct outer *outer;

	if (pull(skb, sizeof(*outer)))
		return drop(DROP_ENCAPSULATION);
	outer = (void *)(long)skb->data;
	if ((void *)(outer + 1) > (void *)(long)skb->data_end)
		return drop(DROP_ENCAPSULATION);
	copy_macs(outer->ethernet.h_dest, uplink->router_mac);
	/* EtherType; version, no class, no flow label; length */
	*(__be64 *)&outer->ethernet.h_proto = bpf_cpu_to_be64((__u64)ETH_P_IPV6 << 48 | 6ULL << 44 | length);
	*(__be16 *)&outer->ip.nexthdr = bpf_htons((is_ipv6 ? IPPROTO_IPV6 : IPPROTO_IPIP) << 8 | OUTER_HOP_LIMIT);
	copy_address(&outer->ip.saddr, from);
	copy_address(&outer->ip.daddr, to);
	step(ENCAPSULATED, uplink->ifindex, 0);
	return send_to(uplink->ifindex);
}

/* Puts the outer header before an IP packet of `length` bytes and sends it off. */
__weak __noinline int encapsulate(struct __sk_buff *skb, const struct uplink *uplink, __u32 length,
				  const union address6 *from, const union address6 *to)
{
	const __u8 is_ipv6 = skb->protocol == bpf_htons(ETH_P_IPV6);

	if (!uplink || !from || !to)
		return drop(DROP_NO_UPLINK);
	if (length > 0xffff)
		return drop(DROP_MALFORMED);
	if (bpf_skb_adjust_room(skb, sizeof(struct ipv6hdr), BPF_ADJ_ROOM_MAC, ENCAPSULATION))
		return drop(DROP_ENCAPSULATION);
	return write_outer(skb, uplink, length, is_ipv6, from, to);
}

/*
 * The same for a guest's packet. Behind a veth there is the same kernel, which would meet the socket of the sender (QEMU's
 * TAP) again: it stays with the last of the segments that a large packet is cut into, and for that one the receiver
 * neither merges it with the others nor keeps it behind them. A copy of the packet's head has no socket.
 */
static __always_inline int send_tunnelled(struct __sk_buff *skb, const struct uplink *uplink, __u32 length,
					  const union address6 *from, const union address6 *to)
{
	const int verdict = encapsulate(skb, uplink, length, from, to);

	if (verdict != TC_ACT_REDIRECT || !skb->gso_size || !uplink || !uplink->is_veth)
		return verdict;
	return send_copy(skb, uplink->ifindex) ? verdict : TC_ACT_SHOT;
}

/* A packet whose outer header is still on gets other outer addresses. */
static __always_inline int readdress(struct __sk_buff *skb, const struct uplink *uplink, __u32 length, __u8 is_ipv6,
				     const union address6 *from, const union address6 *to)
{
	return uplink ? write_outer(skb, uplink, length, is_ipv6, from, to) : drop(DROP_NO_UPLINK);
}

/*
 * Sends a packet from an uplink on to `flow`'s outer destination; `start` is the offset of its IP header. It is the same
 * packet of the underlay, whose hop limit, scratch->hop_limit, goes on: hosts that send it to each other end it so.
 */
__weak __noinline int relay_onward(struct __sk_buff *skb, const struct flow *flow, __u32 start, __u32 length,
				   __u32 is_ipv6)
{
	const struct uplink *uplink = same_uplink(skb->ifindex);
	const struct scratch *scratch = get_scratch();
	const struct settings *own = get_settings();
	__u8 left;
	int verdict;

	if (!flow || !own || !scratch)
		return drop(DROP_NO_UPLINK);
	if (scratch->hop_limit <= 1)
		return drop(DROP_HOP_LIMIT);
	left = scratch->hop_limit - 1;
	if (start != ETH_HLEN)
		verdict = readdress(skb, uplink, length, is_ipv6, &own->host, &flow->underlay);
	else
		verdict = encapsulate(skb, uplink, length, &own->host, &flow->underlay);
	if (verdict == TC_ACT_REDIRECT && bpf_skb_store_bytes(skb, HOP_LIMIT_AT, &left, sizeof(left), 0))
		return drop(DROP_ENCAPSULATION);
	return verdict;
}
