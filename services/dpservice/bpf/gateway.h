/* SPDX-License-Identifier: Apache-2.0 */
/* Which packets of a guest are for its gateway, and the way to the program that answers them. */
#pragma once

#include "parse.h"

#define ND_FIRST	133	/* RFC 4861: router solicitation to redirect */
#define ND_LAST		137

/* Every datagram to a DHCP server is the gateway's, so that no guest can be one. */
static __always_inline int is_for_gateway(struct __sk_buff *skb, const struct packet *packet)
{
	__u8 type;

	if (packet->protocol == IPPROTO_UDP)
		return packet->destination_port == PORT_DHCP_SERVER || packet->destination_port == PORT_DHCP6_SERVER;
	return packet->is_ipv6 && packet->protocol == IPPROTO_ICMPV6 &&
	       !bpf_skb_load_bytes(skb, packet->transport, &type, sizeof(type)) && type >= ND_FIRST && type <= ND_LAST;
}

static __always_inline int ask_gateway(struct __sk_buff *skb)
{
	bpf_tail_call(skb, &programs, PROGRAM_SERVE_GUEST);
	return drop(DROP_REPLY);
}
