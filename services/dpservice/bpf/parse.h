/* SPDX-License-Identifier: Apache-2.0 */
/* Reading headers: from the IP header to the ports of an overlay packet, whatever it looks like. */
#pragma once

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/icmpv6.h>
#include <linux/tcp.h>
#include <linux/udp.h>

#include "drop.h"
#include "scratch.h"

/* A step's way to say "not decided": any other value is the program's verdict. */
#define NEXT (-2)

/* Of the look for a flow: there is none (any more), or it has to be made anew with another way. */
#define BEGIN	  (-3)
#define BEGIN_WAY (-4)

/* Each step decides or says NEXT. */
#define STEP(call)                      \
	do {                            \
		int verdict = (call);   \
		if (verdict != NEXT)    \
			return verdict; \
	} while (0)

#define IPPROTO_FRAGMENT6 44	/* RFC 8200 4.5 */
#define PORT_DHCP_SERVER  67
#define PORT_DHCP_CLIENT  68
#define PORT_DHCP6_SERVER 547

/* RFC 792; the kernel's header brings in too much. */
#define ICMP_ECHOREPLY		0
#define ICMP_DEST_UNREACH	3
#define ICMP_SOURCE_QUENCH	4
#define ICMP_REDIRECT		5
#define ICMP_ECHO		8
#define ICMP_TIME_EXCEEDED	11
#define ICMP_PARAMETERPROB	12
#define ICMP_TIMESTAMP		13
#define ICMP_TIMESTAMPREPLY	14
#define ICMP_PROT_UNREACH	2	/* codes of destination unreachable */
#define ICMP_FRAG_NEEDED	4

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10
#define TCP_FLAGS_READ 0x3f	/* without ECE and CWR: a SYN that offers ECN is a SYN */

#define ICMP6_PACKET_TOO_BIG 2
#define ICMP6_LAST_ERROR 127
#define ND_FIRST 133		/* router solicitation */
#define ND_LAST 137		/* redirect */

#define LAYER4_READ 20		/* what `pull` wants behind the IP header, if the packet has so much */

struct fragment6 {
	__u8 next_header;
	__u8 reserved;
	__be16 offset;		/* in units of 8 bytes, shifted by 3; the lowest bit says that more follow */
	__be32 id;
};

/* Makes the first `length` bytes directly readable; a guest decides how its frames are laid out in memory. */
static __always_inline int pull(struct __sk_buff *skb, __u32 length)
{
	if ((void *)(long)skb->data + length <= (void *)(long)skb->data_end)
		return 0;
	return bpf_skb_pull_data(skb, length);
}

/*
 * Copies in as few words as there can be, to or from a packet or a map: compilers go by bytes or halves where they can't
 * know of an alignment, which these programs do not need.
 */
static __always_inline void copy_mac(void *to, const void *from)
{
	*(__u32 *)to = *(const __u32 *)from;
	*(__u16 *)(to + 4) = *(const __u16 *)(from + 4);
}

static __always_inline void copy_macs(void *to, const void *from)
{
	*(__u64 *)to = *(const __u64 *)from;
	*(__u32 *)(to + 8) = *(const __u32 *)(from + 8);
}

static __always_inline void copy_address(void *to, const void *from)
{
	*(__u64 *)to = *(const __u64 *)from;
	*(__u64 *)(to + 8) = *(const __u64 *)(from + 8);
}

/* Is there more behind the IP packet of `length` bytes than the shortest of frames is filled up with? */
static __always_inline int has_trailer(const struct __sk_buff *skb, __u32 length)
{
	return skb->len > ETH_HLEN + length && skb->len > ETH_ZLEN;
}

/* ICMP: errors about other packets are told apart; type and identifier stand for ports. */
static __always_inline void read_icmp(struct packet *packet, const struct icmp6hdr *icmp)
{
	packet->source_port = icmp->icmp6_type;
	packet->destination_port = bpf_ntohs(icmp->icmp6_identifier);
	packet->icmp_code = icmp->icmp6_code;
	if (packet->is_ipv6)
		packet->is_error = icmp->icmp6_type <= ICMP6_LAST_ERROR;
	else
		packet->is_error = icmp->icmp6_type == ICMP_DEST_UNREACH || icmp->icmp6_type == ICMP_SOURCE_QUENCH ||
				   icmp->icmp6_type == ICMP_REDIRECT || icmp->icmp6_type == ICMP_TIME_EXCEEDED ||
				   icmp->icmp6_type == ICMP_PARAMETERPROB;
}

/* The first 8 bytes of layer 4, which every protocol that is forwarded has. */
static __always_inline int read_layer4(struct __sk_buff *skb, struct packet *packet)
{
	union {
		struct icmp6hdr icmp;
		__be16 port[4];
		__be32 word[2];
	} head;

	if (packet->fragment == FRAGMENT_LATER)
		return NEXT;
	if (packet->protocol != IPPROTO_TCP && packet->protocol != IPPROTO_UDP && packet->protocol != IPPROTO_ICMP &&
	    packet->protocol != IPPROTO_ICMPV6)
		return NEXT;
	if (packet->transport + sizeof(head) > packet->start + packet->length ||
	    bpf_skb_load_bytes(skb, packet->transport, &head, sizeof(head)))
		return drop(DROP_TRUNCATED);
	if (packet->protocol == IPPROTO_ICMP || packet->protocol == IPPROTO_ICMPV6) {
		read_icmp(packet, &head.icmp);
		return NEXT;
	}
	packet->source_port = bpf_ntohs(head.port[0]);
	packet->destination_port = bpf_ntohs(head.port[1]);
	if (packet->protocol == IPPROTO_TCP) {
		__u8 flags;

		if (packet->transport + sizeof(struct tcphdr) > packet->start + packet->length ||
		    bpf_skb_load_bytes(skb, packet->transport + 13, &flags, sizeof(flags)))
			return drop(DROP_TRUNCATED);
		packet->tcp_flags = flags & TCP_FLAGS_READ;
	}
	return NEXT;
}

static __always_inline int parse_ipv4(struct __sk_buff *skb, struct packet *packet, __u32 start)
{
	struct iphdr ip;

	if (bpf_skb_load_bytes(skb, start, &ip, sizeof(ip)))
		return drop(DROP_TRUNCATED);
	packet->length = bpf_ntohs(ip.tot_len);
	if (ip.version != 4 || ip.ihl < 5 || packet->length < ip.ihl * 4u)
		return drop(DROP_MALFORMED);
	if (packet->length + start > skb->len)
		return drop(DROP_TRUNCATED);
	packet->is_ipv6 = 0;
	packet->protocol = ip.protocol;
	packet->source = (union address6){ .word[0] = ip.saddr };
	packet->destination = (union address6){ .word[0] = ip.daddr };
	packet->start = start;
	packet->transport = start + ip.ihl * 4u;
	packet->fragment_id = ip.id;
	if (ip.frag_off & bpf_htons(0x1fff))
		packet->fragment = FRAGMENT_LATER;
	else
		packet->fragment = ip.frag_off & bpf_htons(0x2000) ? FRAGMENT_FIRST : FRAGMENT_NONE;
	return read_layer4(skb, packet);
}

static __always_inline int parse_ipv6(struct __sk_buff *skb, struct packet *packet, __u32 start)
{
	struct fragment6 fragment;
	struct ipv6hdr ip;

	if (bpf_skb_load_bytes(skb, start, &ip, sizeof(ip)))
		return drop(DROP_TRUNCATED);
	packet->length = bpf_ntohs(ip.payload_len) + sizeof(ip);
	if (ip.version != 6)
		return drop(DROP_MALFORMED);
	if (packet->length + start > skb->len)
		return drop(DROP_TRUNCATED);
	packet->is_ipv6 = 1;
	packet->protocol = ip.nexthdr;
	__builtin_memcpy(&packet->source, &ip.saddr, sizeof(packet->source));
	__builtin_memcpy(&packet->destination, &ip.daddr, sizeof(packet->destination));
	packet->start = start;
	packet->transport = start + sizeof(ip);
	packet->fragment = FRAGMENT_NONE;
	if (ip.nexthdr == IPPROTO_FRAGMENT6) {
		if (packet->length < sizeof(ip) + sizeof(fragment) ||
		    bpf_skb_load_bytes(skb, packet->transport, &fragment, sizeof(fragment)))
			return drop(DROP_TRUNCATED);
		packet->protocol = fragment.next_header;
		packet->fragment_id = fragment.id;
		packet->transport += sizeof(fragment);
		if (fragment.offset & bpf_htons(0xfff8))
			packet->fragment = FRAGMENT_LATER;
		else if (fragment.offset & bpf_htons(1))
			packet->fragment = FRAGMENT_FIRST;
	}
	return read_layer4(skb, packet);
}

/* The IP packet at offset `start`; `type` is its EtherType. */
static __always_inline int parse_ip(struct __sk_buff *skb, struct packet *packet, __u32 start, __be16 type)
{
	if (skb->vlan_present)
		return drop(DROP_TAGGED);
	packet->source_port = 0;
	packet->destination_port = 0;
	packet->tcp_flags = 0;
	packet->icmp_code = 0;
	packet->is_error = 0;
	packet->fragment_id = 0;
	if (type == bpf_htons(ETH_P_IP))
		return parse_ipv4(skb, packet, start);
	if (type == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(skb, packet, start);
	return drop(DROP_NOT_IP);
}

/* The same for scratch->packet; not inline, to keep headers off its callers' stack. */
__weak __noinline int parse_packet(struct __sk_buff *skb, __u32 start, __u32 type)
{
	struct scratch *scratch = get_scratch();

	return scratch ? parse_ip(skb, &scratch->packet, start, type) : TC_ACT_SHOT;
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
		return packet->is_ipv6 ? NEXT : drop(DROP_PROTOCOL);
	}
	return drop(DROP_PROTOCOL);
}

static __always_inline int is_link_local(const union address6 *address)
{
	return (address->word[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000);
}

/*
 * A default route must not carry what belongs to the guest's own link. 0.0.0.0 does no harm beyond the gateway that
 * gets it, so hosts that are to be as the original is send it on.
 */
static __always_inline int check_unicast(const struct packet *packet)
{
	const struct settings *own = get_settings();
	__u32 first = bpf_ntohl(packet->destination.word[0]);

	if (packet->is_ipv6) {
		if (first >> 24 == 0xff || is_link_local(&packet->destination))
			return drop(DROP_NOT_UNICAST);
		return NEXT;
	}
	/* 224.0.0.0/4, 240.0.0.0/4, 169.254.0.0/16 */
	if (first >> 28 >= 0xe || first >> 16 == 0xa9fe || (!first && own && own->check_sources))
		return drop(DROP_NOT_UNICAST);
	return NEXT;
}

static __always_inline int same_address6(const union address6 *a, const union address6 *b)
{
	return a->half[0] == b->half[0] && a->half[1] == b->half[1];
}
