/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packets that do not fit into the tunnel are answered with what fits (RFC 1191, RFC 8201): the packet is cut to its
 * first bytes, which go back to the guest behind an ICMP header from the gateway. IPv4 without "don't fragment" as
 * well: tunnels do not fragment, and the guest can.
 */
#pragma once

#include "answer.h"
#include "deliver.h"
#include "route.h"

#define TCP_OFFSET	12	/* of the byte that says how long the header is */
#define TCP_QUOTED	20	/* as far as a checksum that the kernel may still have to complete reaches */
#define OTHERS_QUOTED	8
#define QUOTED_MAX	128
#define GATEWAY4_ADDRESS 0xa9fe0001	/* 169.254.0.1 */
#define ERROR_HOP_LIMIT 64

struct too_big4 {
	struct iphdr ip;
	struct icmp6hdr icmp;	/* laid out as ICMP's */
};

struct too_big6 {
	struct ipv6hdr ip;
	struct icmp6hdr icmp;
};

/* The length that each segment of a GSO packet will have from its IP header on; 0: it can't be read. */
static __always_inline __u32 segment_length(struct __sk_buff *skb, __u32 transport, __u8 protocol)
{
	__u8 offset;

	if (protocol != IPPROTO_TCP)
		return transport - ETH_HLEN + sizeof(struct udphdr) + skb->gso_size;
	if (bpf_skb_load_bytes(skb, transport + TCP_OFFSET, &offset, sizeof(offset)))
		return 0;
	return transport - ETH_HLEN + (offset >> 4) * 4 + skb->gso_size;
}

/*
 * Does an IP packet of that length fit, or what it will be cut to? The guest decides how long segments are. `transport`
 * is the offset of layer 4.
 */
static __always_inline int fits(struct __sk_buff *skb, const struct uplink *uplink, __u32 length, __u32 transport,
				__u8 protocol)
{
	if (!uplink->mtu || length + sizeof(struct ipv6hdr) <= uplink->mtu)
		return 1;
	if (!skb->gso_size)
		return 0;
	length = segment_length(skb, transport, protocol);
	return length && length + sizeof(struct ipv6hdr) <= uplink->mtu;
}

/* Cuts the packet to what is quoted of it: its length from the IP header on, and the sum over it. 0: it can't be. */
static __always_inline __u32 quote(struct __sk_buff *skb, const struct packet *packet, __s64 *sum)
{
	__u32 zero = 0, length = packet->transport - ETH_HLEN;
	struct answer_scratch *scratch = bpf_map_lookup_elem(&answer_scratch, &zero);

	length += packet->protocol == IPPROTO_TCP && packet->fragment != FRAGMENT_LATER ? TCP_QUOTED : OTHERS_QUOTED;
	if (!scratch || bpf_skb_change_tail(skb, ETH_HLEN + length, 0))
		return 0;
	__builtin_memset(scratch->words, 0, QUOTED_MAX);
	if (!bound(&length, QUOTED_MAX) || bpf_skb_load_bytes(skb, ETH_HLEN, scratch->words, length))
		return 0;
	*sum = bpf_csum_diff(0, 0, (__be32 *)scratch->words, QUOTED_MAX, 0);
	return length;
}

static __always_inline int put_before(struct __sk_buff *skb, const void *headers, __u32 size)
{
	if (bpf_skb_adjust_room(skb, size, BPF_ADJ_ROOM_MAC, 0) || bpf_skb_store_bytes(skb, ETH_HLEN, headers, size, 0))
		return drop(DROP_REPLY);
	return NEXT;
}

__weak __noinline int answer_too_big4(struct __sk_buff *skb, __u32 mtu)
{
	const struct scratch *scratch = get_scratch();
	struct too_big4 answer = {};
	__u32 quoted;
	__s64 sum;

	if (!scratch)
		return drop(DROP_REPLY);
	quoted = quote(skb, &scratch->packet, &sum);
	if (!quoted)
		return drop(DROP_REPLY);
	answer.ip.version = 4;
	answer.ip.ihl = 5;
	answer.ip.tot_len = bpf_htons(sizeof(answer) + quoted);
	answer.ip.ttl = ERROR_HOP_LIMIT;
	answer.ip.protocol = IPPROTO_ICMP;
	answer.ip.saddr = bpf_htonl(GATEWAY4_ADDRESS);
	answer.ip.daddr = scratch->packet.source.word[0];
	answer.ip.check = ~fold((__u32)bpf_csum_diff(0, 0, (__be32 *)&answer.ip, sizeof(answer.ip), 0));
	answer.icmp.icmp6_type = ICMP_DEST_UNREACH;
	answer.icmp.icmp6_code = ICMP_FRAG_NEEDED;
	answer.icmp.icmp6_mtu = bpf_htonl(mtu);
	sum = bpf_csum_diff(0, 0, (__be32 *)&answer.icmp, sizeof(answer.icmp), sum);
	answer.icmp.icmp6_cksum = ~fold((__u32)sum);
	return put_before(skb, &answer, sizeof(answer));
}

__weak __noinline int answer_too_big6(struct __sk_buff *skb, __u32 mtu)
{
	const struct scratch *scratch = get_scratch();
	struct too_big6 answer = {};
	__u32 quoted, tail[2];
	__s64 sum;

	if (!scratch)
		return drop(DROP_REPLY);
	quoted = quote(skb, &scratch->packet, &sum);
	if (!quoted)
		return drop(DROP_REPLY);
	answer.ip.version = 6;
	answer.ip.payload_len = bpf_htons(sizeof(answer.icmp) + quoted);
	answer.ip.nexthdr = IPPROTO_ICMPV6;
	answer.ip.hop_limit = ERROR_HOP_LIMIT;
	answer.ip.saddr.s6_addr[0] = 0xfe;	/* fe80::1, the gateway */
	answer.ip.saddr.s6_addr[1] = 0x80;
	answer.ip.saddr.s6_addr[15] = 1;
	__builtin_memcpy(&answer.ip.daddr, &scratch->packet.source, sizeof(answer.ip.daddr));
	answer.icmp.icmp6_type = ICMP6_PACKET_TOO_BIG;
	answer.icmp.icmp6_mtu = bpf_htonl(mtu);
	tail[0] = bpf_htonl(sizeof(answer.icmp) + quoted);
	tail[1] = bpf_htonl(IPPROTO_ICMPV6);
	sum = bpf_csum_diff(0, 0, (__be32 *)&answer.ip.saddr, 2 * sizeof(union address6), sum);
	sum = bpf_csum_diff(0, 0, tail, sizeof(tail), sum);
	sum = bpf_csum_diff(0, 0, (__be32 *)&answer.icmp, sizeof(answer.icmp), sum);
	answer.icmp.icmp6_cksum = ~fold((__u32)sum);
	return put_before(skb, &answer, sizeof(answer));
}

/* NEXT, or the guest is told that scratch->packet is too long for where scratch->flow leads. */
__weak __noinline int check_length(struct __sk_buff *skb, __u32 number)
{
	const struct scratch *scratch = get_scratch();
	const struct uplink *uplink;
	__u32 mtu;

	if (!scratch || scratch->flow.hop == HOP_PORT)
		return NEXT;
	uplink = working_uplink(scratch->flow.uplink);
	if (!uplink || fits(skb, uplink, scratch->packet.length, scratch->packet.transport, scratch->packet.protocol))
		return NEXT;
	count_drop(DROP_TOO_BIG);
	STEP(check_budget(number));
	mtu = uplink->mtu - sizeof(struct ipv6hdr);
	if (scratch->packet.is_ipv6)
		STEP(answer_too_big6(skb, mtu));
	else
		STEP(answer_too_big4(skb, mtu));
	return deliver(skb, number);
}
