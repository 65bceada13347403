/* SPDX-License-Identifier: Apache-2.0 */
/* Which packets of a guest are for its gateway, and the way to the program that answers them. */
#pragma once

#include "parse.h"

/* A verdict of the first look. */
#define FOR_GATEWAY (-5)

/* Every datagram to a DHCP server is the gateway's, so that no guest can be one. */
static __always_inline int is_for_gateway(const struct packet *packet)
{
	if (packet->fragment == FRAGMENT_LATER)
		return 0;
	if (packet->protocol == IPPROTO_UDP)
		return packet->destination_port == PORT_DHCP_SERVER || packet->destination_port == PORT_DHCP6_SERVER;
	return packet->is_ipv6 && packet->protocol == IPPROTO_ICMPV6 && packet->source_port >= ND_FIRST &&
	       packet->source_port <= ND_LAST;
}

/* What stands behind the IP packet would pass every limit that goes by the packet's length. */
static __always_inline int trim(struct __sk_buff *skb, __u32 length)
{
	if (!has_trailer(skb, length))
		return NEXT;
	if (skb->gso_size || bpf_skb_change_tail(skb, ETH_HLEN + length, 0))
		return drop(DROP_MALFORMED);
	return NEXT;
}

/* Reads the packet for all steps that follow. */
__weak __noinline int look_at(struct __sk_buff *skb, __u32 number)
{
	struct scratch *scratch = get_scratch();

	if (skb->protocol == bpf_htons(ETH_P_ARP) && !skb->vlan_present)
		return FOR_GATEWAY;
	if (!scratch)
		return drop(DROP_NO_INTERFACE);
	STEP(parse_packet(skb, ETH_HLEN, skb->protocol));
	STEP(trim(skb, scratch->packet.length));
	step(PARSED, scratch->packet.protocol, number);
	return is_for_gateway(&scratch->packet) ? FOR_GATEWAY : NEXT;
}

static __always_inline int ask_gateway(struct __sk_buff *skb)
{
	step(FOR_GATEWAY, 0, 0);
	continue_in(skb, PROGRAM_SERVE_GUEST);
	return drop(DROP_REPLY);
}
