/* SPDX-License-Identifier: Apache-2.0 */
/* Reading headers: from Ethernet to the destination port of an overlay packet. */
#pragma once

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/icmpv6.h>
#include <linux/udp.h>

#include "drop.h"

/* A step's way to say "not decided": any other value is the program's verdict. */
#define NEXT (-2)

#define IPPROTO_FRAGMENT6 44	/* RFC 8200 4.5 */
#define PORT_DHCP_SERVER  67
#define PORT_DHCP_CLIENT  68
#define PORT_DHCP6_SERVER 547

/* What the steps need to know of an overlay packet; the packet itself may move under them. */
struct packet {
	union address6 source;		/* IPv4: in word[0] */
	union address6 destination;
	__u32 length;			/* of the IP packet, from its header */
	__u32 transport;		/* offset of the layer 4 header in the frame */
	__u16 destination_port;		/* UDP, host order; 0 if unknown */
	__u8 is_ipv6;
	__u8 protocol;
};

/* Makes the first `length` bytes directly readable; a guest decides how its frames are laid out in memory. */
static __always_inline int pull(struct __sk_buff *skb, __u32 length)
{
	if ((void *)(long)skb->data + length <= (void *)(long)skb->data_end)
		return 0;
	return bpf_skb_pull_data(skb, length);
}

static __always_inline int read_port(struct __sk_buff *skb, struct packet *packet)
{
	struct udphdr udp;

	if (packet->protocol != IPPROTO_UDP)
		return NEXT;
	if (bpf_skb_load_bytes(skb, packet->transport, &udp, sizeof(udp)))
		return drop(DROP_TRUNCATED);
	packet->destination_port = bpf_ntohs(udp.dest);
	return NEXT;
}

static __always_inline int parse_ipv4(struct __sk_buff *skb, struct packet *packet)
{
	const struct iphdr *ip;

	if (pull(skb, ETH_HLEN + sizeof(*ip)))
		return drop(DROP_TRUNCATED);
	ip = (void *)(long)skb->data + ETH_HLEN;
	if ((void *)(ip + 1) > (void *)(long)skb->data_end)
		return drop(DROP_TRUNCATED);
	packet->length = bpf_ntohs(ip->tot_len);
	if (ip->version != 4 || ip->ihl < 5 || packet->length < ip->ihl * 4u)
		return drop(DROP_MALFORMED);
	if (packet->length + ETH_HLEN > skb->len)
		return drop(DROP_TRUNCATED);
	packet->is_ipv6 = 0;
	packet->protocol = ip->protocol;
	packet->source.word[0] = ip->saddr;
	packet->destination.word[0] = ip->daddr;
	packet->transport = ETH_HLEN + ip->ihl * 4u;
	if (ip->frag_off & bpf_htons(0x1fff))	/* only a first fragment has a layer 4 header */
		return NEXT;
	return read_port(skb, packet);
}

static __always_inline int parse_ipv6(struct __sk_buff *skb, struct packet *packet)
{
	const struct ipv6hdr *ip;

	if (pull(skb, ETH_HLEN + sizeof(*ip)))
		return drop(DROP_TRUNCATED);
	ip = (void *)(long)skb->data + ETH_HLEN;
	if ((void *)(ip + 1) > (void *)(long)skb->data_end)
		return drop(DROP_TRUNCATED);
	packet->length = bpf_ntohs(ip->payload_len) + sizeof(*ip);
	if (ip->version != 6)
		return drop(DROP_MALFORMED);
	if (packet->length + ETH_HLEN > skb->len)
		return drop(DROP_TRUNCATED);
	packet->is_ipv6 = 1;
	packet->protocol = ip->nexthdr;
	__builtin_memcpy(&packet->source, &ip->saddr, sizeof(packet->source));
	__builtin_memcpy(&packet->destination, &ip->daddr, sizeof(packet->destination));
	packet->transport = ETH_HLEN + sizeof(*ip);
	return read_port(skb, packet);
}

static __always_inline int parse_ip(struct __sk_buff *skb, struct packet *packet)
{
	if (skb->vlan_present)
		return drop(DROP_TAGGED);
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return parse_ipv4(skb, packet);
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(skb, packet);
	return drop(DROP_NOT_IP);
}

/* Which protocols cross the overlay at all. */
static __always_inline int check_protocol(const struct packet *packet)
{
	switch (packet->protocol) {
	case IPPROTO_TCP:
	case IPPROTO_UDP:
		return NEXT;
	case IPPROTO_ICMP:
		return packet->is_ipv6 ? drop(DROP_PROTOCOL) : NEXT;
	case IPPROTO_ICMPV6:
	case IPPROTO_FRAGMENT6:
		return packet->is_ipv6 ? NEXT : drop(DROP_PROTOCOL);
	}
	return drop(DROP_PROTOCOL);
}

static __always_inline int is_link_local(const union address6 *address)
{
	return (address->word[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

/* A default route must not carry what belongs to the guest's own link. */
static __always_inline int check_unicast(const struct packet *packet)
{
	__u32 first = bpf_ntohl(packet->destination.word[0]);

	if (packet->is_ipv6) {
		if (first >> 24 == 0xff || is_link_local(&packet->destination))
			return drop(DROP_NOT_UNICAST);
		return NEXT;
	}
	if (first >> 28 >= 0xe || first >> 16 == 0xa9fe || !first)	/* 224/4, 240/4, 169.254/16, 0.0.0.0 */
		return drop(DROP_NOT_UNICAST);
	return NEXT;
}
