/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fast path's look at a packet: headers without options, whole datagrams, TCP that changes no state, echoes. What
 * is not of that kind goes the slow way, which knows all kinds.
 */
#pragma once

#include "flow.h"

struct quick {
	__u32 length;	/* of the IP packet */
	__u8 is_ipv6;
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

static __always_inline int quick_ipv4(struct __sk_buff *skb, __u32 start, struct flow_key *key, struct quick *quick)
{
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

static __always_inline int quick_ipv6(struct __sk_buff *skb, __u32 start, struct flow_key *key, struct quick *quick)
{
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
static __always_inline int quick_key(struct __sk_buff *skb, __u32 start, __be16 type, struct flow_key *key,
				     struct quick *quick)
{
	key->discriminator = 0;
	if (type == bpf_htons(ETH_P_IP))
		return quick_ipv4(skb, start, key, quick);
	if (type == bpf_htons(ETH_P_IPV6))
		return quick_ipv6(skb, start, key, quick);
	return 1;
}

/* The flow of a packet if nothing about it has to be decided anew. */
static __always_inline struct flow *quick_flow(const struct flow_key *key, __u32 now)
{
	struct flow *flow = bpf_map_lookup_elem(&flows, key);

	if (!flow || is_expired(flow, now) || flow->revision != current_revision(flow->bucket) ||
	    flow->epoch != current_epoch(key, flow))
		return 0;
	/* The next segment may end the handshake. */
	if (flow->tcp == TCP_NEW_SYNACK)
		return 0;
	return flow;
}
