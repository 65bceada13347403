/* SPDX-License-Identifier: Apache-2.0 */
/* Does with scratch->packet what scratch->flow says. */
#pragma once

#include "decap.h"
#include "deliver.h"
#include "encap.h"
#include "icmp_error.h"
#include "nat64.h"
#include "rewrite.h"

static __always_inline __be16 ether_type(const struct packet *packet)
{
	return packet->is_ipv6 ? bpf_htons(ETH_P_IPV6) : bpf_htons(ETH_P_IP);
}

static __always_inline int relay(struct __sk_buff *skb, const struct scratch *scratch)
{
	const struct packet *packet = &scratch->packet;
	const struct settings *own = get_settings();

	visit(STAGE_RELAY);
	visit(STAGE_ENCAPSULATION);
	if (scratch->key.side >= SIDE_TUNNEL)
		return relay_onward(skb, &scratch->flow, scratch->has_outer ? sizeof(struct outer) : ETH_HLEN,
				    packet->length, packet->is_ipv6);
	if (!own)
		return drop(DROP_NO_UPLINK);
	return encapsulate(skb, working_uplink(scratch->flow.uplink), packet->length, &own->host,
			   &scratch->flow.underlay);
}

static __always_inline int translate(struct __sk_buff *skb, struct scratch *scratch)
{
	const struct packet *packet = &scratch->packet;
	struct rewriting rewriting;

	if (!scratch->flow.rewrite)
		return NEXT;
	if (scratch->flow.rewrite & (REWRITE_6TO4 | REWRITE_4TO6))
		return packet->is_error ? drop(DROP_NAT64) :
		       packet->is_ipv6 ? translate_6to4(skb) : translate_4to6(skb);
	if (packet->is_error)
		return rewrite_error(skb);
	rewriting_of(&rewriting, &scratch->key, &scratch->flow);
	return rewrite_ipv4(skb, &rewriting, packet->fragment == FRAGMENT_LATER ? 0 : packet->transport);
}

__weak __noinline int carry(struct __sk_buff *skb)
{
	struct scratch *scratch = get_scratch();
	const struct port *port;

	if (!scratch)
		return TC_ACT_SHOT;
	if (scratch->flow.hop == HOP_RELAY)
		return relay(skb, scratch);
	if (scratch->has_outer) {
		STEP(unwrap(skb, ether_type(&scratch->packet)));
		scratch->has_outer = 0;
		scratch->packet.start -= sizeof(struct ipv6hdr);
		scratch->packet.transport -= sizeof(struct ipv6hdr);
	}
	STEP(translate(skb, scratch));
	if (scratch->flow.hop == HOP_PORT)
		return deliver(skb, scratch->flow.port);
	port = get_port(scratch->key.side & 0xffff);
	if (scratch->flow.hop != HOP_REMOTE || scratch->key.side >= SIDE_TUNNEL || !port)
		return drop(DROP_NO_ROUTE);
	visit(STAGE_ENCAPSULATION);
	return send_tunnelled(skb, working_uplink(scratch->flow.uplink), scratch->packet.length, &port->underlay,
			      &scratch->flow.underlay);
}
