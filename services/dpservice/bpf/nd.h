/* SPDX-License-Identifier: Apache-2.0 */
/* IPv6 neighbor discovery (RFC 4861): the gateway fe80::1 answers neighbor and router solicitations. */
#pragma once

#include "answer.h"

#define ND_ROUTER_SOLICIT	133
#define ND_ROUTER_ADVERT	134
#define ND_NEIGHBOR_SOLICIT	135
#define ND_NEIGHBOR_ADVERT	136
#define ND_HOP_LIMIT		255

#define ND_OPT_SOURCE_MAC	1
#define ND_OPT_TARGET_MAC	2
#define NA_FLAGS		0xe0	/* router, solicited, override */
#define RA_FLAGS		0xc0	/* managed, other: addresses come by DHCPv6 */
#define RA_LIFETIME		65535	/* seconds */

struct nd_option {
	__u8 type;
	__u8 length;		/* in units of 8 bytes */
	__u8 mac[ETH_ALEN];
};

struct neighbor_advert {
	__u8 type;
	__u8 code;
	__u16 checksum;
	__u8 flags[4];
	union address6 target;
	struct nd_option option;
};

struct router_advert {
	__u8 type;
	__u8 code;
	__u16 checksum;
	__u8 hop_limit;
	__u8 flags;
	__be16 lifetime;
	__be32 reachable;
	__be32 retransmit;
	struct nd_option option;
};

struct pseudo_header {
	union address6 source;
	union address6 destination;
	__be32 length;
	__be32 next_header;
};

struct nd_headers {
	struct ethhdr ethernet;
	struct ipv6hdr ip;
} __attribute__((packed));

static __always_inline union address6 gateway6(void)
{
	union address6 gateway = {};

	gateway.byte[0] = 0xfe;
	gateway.byte[1] = 0x80;
	gateway.byte[15] = 1;
	return gateway;
}

/* Replaces the solicitation by `message` (`size` bytes, checksum 0 so far) and sends it back. */
static __always_inline int send_nd(struct __sk_buff *skb, const struct port *port, const __u8 *mac,
				   const union address6 *to, void *message, __u32 size)
{
	struct pseudo_header pseudo = { .source = gateway6(), .destination = *to };
	struct nd_headers headers = {};
	__s64 sum;

	pseudo.length = bpf_htonl(size);
	pseudo.next_header = bpf_htonl(IPPROTO_ICMPV6);
	sum = bpf_csum_diff(0, 0, (__be32 *)&pseudo, sizeof(pseudo), 0);
	sum = bpf_csum_diff(0, 0, message, size, sum);
	sum = (sum & 0xffff) + ((sum >> 16) & 0xffff);
	sum = (sum & 0xffff) + (sum >> 16);
	((struct neighbor_advert *)message)->checksum = ~sum;

	__builtin_memcpy(headers.ethernet.h_dest, mac, ETH_ALEN);
	__builtin_memcpy(headers.ethernet.h_source, port->mac, ETH_ALEN);
	headers.ethernet.h_proto = bpf_htons(ETH_P_IPV6);
	headers.ip.version = 6;
	headers.ip.payload_len = bpf_htons(size);
	headers.ip.nexthdr = IPPROTO_ICMPV6;
	headers.ip.hop_limit = ND_HOP_LIMIT;
	__builtin_memcpy(&headers.ip.saddr, &pseudo.source, sizeof(headers.ip.saddr));
	__builtin_memcpy(&headers.ip.daddr, to, sizeof(headers.ip.daddr));

	if (bpf_skb_change_tail(skb, sizeof(headers) + size, 0) ||
	    bpf_skb_store_bytes(skb, 0, &headers, sizeof(headers), 0) ||
	    bpf_skb_store_bytes(skb, sizeof(headers), message, size, 0))
		return drop(DROP_REPLY);
	return send_to(skb->ifindex);
}

static __always_inline int advertise_neighbor(struct __sk_buff *skb, const struct packet *packet,
					      const struct port *port, const __u8 *mac)
{
	struct neighbor_advert advert = { .type = ND_NEIGHBOR_ADVERT, .flags = { NA_FLAGS }, .target = gateway6() };

	advert.option.type = ND_OPT_TARGET_MAC;
	advert.option.length = 1;
	__builtin_memcpy(advert.option.mac, port->mac, ETH_ALEN);
	return send_nd(skb, port, mac, &packet->source, &advert, sizeof(advert));
}

static __always_inline int advertise_router(struct __sk_buff *skb, const struct packet *packet,
					    const struct port *port, const __u8 *mac)
{
	struct router_advert advert = { .type = ND_ROUTER_ADVERT, .hop_limit = ND_HOP_LIMIT, .flags = RA_FLAGS };
	const __u8 all_nodes_mac[ETH_ALEN] = { 0x33, 0x33, 0, 0, 0, 1 };
	union address6 all_nodes = {};

	advert.lifetime = bpf_htons(RA_LIFETIME);
	advert.option.type = ND_OPT_SOURCE_MAC;
	advert.option.length = 1;
	__builtin_memcpy(advert.option.mac, port->mac, ETH_ALEN);
	if (packet->source.half[0] | packet->source.half[1])
		return send_nd(skb, port, mac, &packet->source, &advert, sizeof(advert));
	all_nodes.byte[0] = 0xff;
	all_nodes.byte[1] = 0x02;
	all_nodes.byte[15] = 1;
	return send_nd(skb, port, all_nodes_mac, &all_nodes, &advert, sizeof(advert));
}

/* Takes every solicitation and advertisement of a guest; the verdict is NEXT for other ICMPv6. */
static __always_inline int answer_nd(struct __sk_buff *skb, const struct packet *packet, const struct port *port,
				     __u32 number)
{
	const struct settings *own = get_settings();
	union address6 gateway = gateway6(), target;
	__u8 mac[8], unspecified;
	struct icmp6hdr icmp;

	if (packet->protocol != IPPROTO_ICMPV6)
		return NEXT;
	if (bpf_skb_load_bytes(skb, packet->transport, &icmp, sizeof(icmp)) || source_mac(skb, mac))
		return drop(DROP_TRUNCATED);
	if (icmp.icmp6_type < ND_ROUTER_SOLICIT || icmp.icmp6_type > ND_NEIGHBOR_ADVERT + 1)	/* 137: redirect */
		return NEXT;
	if (!own || !own->ipv6_overlay)
		return drop(DROP_NEIGHBOR_DISCOVERY);
	if (is_group(mac))
		return drop(DROP_SPOOFED_MAC);
	unspecified = !(packet->source.half[0] | packet->source.half[1]);
	if (!unspecified && !is_link_local(&packet->source) &&
	    (packet->source.half[0] != port->ipv6.half[0] || packet->source.half[1] != port->ipv6.half[1]))
		return drop(DROP_SPOOFED_ADDRESS);
	STEP(check_budget(number));
	if (icmp.icmp6_type == ND_ROUTER_SOLICIT)
		return advertise_router(skb, packet, port, mac);
	if (icmp.icmp6_type != ND_NEIGHBOR_SOLICIT || unspecified)
		return drop(DROP_NEIGHBOR_DISCOVERY);
	if (bpf_skb_load_bytes(skb, packet->transport + sizeof(icmp), &target, sizeof(target)))
		return drop(DROP_TRUNCATED);
	if (target.half[0] != gateway.half[0] || target.half[1] != gateway.half[1])
		return drop(DROP_NEIGHBOR_DISCOVERY);
	learn_mac(number, mac);
	return advertise_neighbor(skb, packet, port, mac);
}
