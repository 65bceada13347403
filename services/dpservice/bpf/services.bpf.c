// SPDX-License-Identifier: Apache-2.0
/* What a guest asks of its gateway: the ingress program of its device continues here. */
#include "maps.h"
#include "arp.h"
#include "capture.h"
#include "dhcp.h"
#include "dhcp6.h"
#include "nd.h"

static __always_inline int answer(struct __sk_buff *skb, const struct port *port, __u32 number)
{
	struct scratch *scratch = get_scratch();
	const struct packet *packet;

	if (skb->protocol == bpf_htons(ETH_P_ARP)) {
		visit(STAGE_ARP);
		return answer_arp(skb, port, number);
	}
	if (!scratch)
		return drop(DROP_REPLY);
	packet = &scratch->packet;
	STEP(parse_ip(skb, &scratch->packet, ETH_HLEN, skb->protocol));
	if (packet->protocol == IPPROTO_ICMPV6) {
		visit(STAGE_ND);
		STEP(answer_nd(skb, packet, port, number));
	}
	if (packet->protocol != IPPROTO_UDP || packet->fragment == FRAGMENT_LATER)
		return drop(DROP_REPLY);
	if (packet->destination_port == PORT_DHCP_SERVER && !packet->is_ipv6) {
		visit(STAGE_DHCP);
		return serve_dhcp(skb, number, packet->transport);
	}
	if (packet->destination_port == PORT_DHCP6_SERVER && packet->is_ipv6) {
		visit(STAGE_DHCP6);
		return serve_dhcp6(skb, number, packet->transport);
	}
	return drop(DROP_DHCP);
}

SEC("tc")
int serve_guest(struct __sk_buff *skb)
{
	__u32 number = port_of(skb->ifindex);
	const struct port *port = get_port(number);
	int verdict;

	if (!port || !port->used)
		return drop(DROP_NO_INTERFACE);
	verdict = answer(skb, port, number);
	if (verdict == TC_ACT_REDIRECT) {
		step(ANSWERED, number, 0);
		capture(skb, number, CAPTURE_OUT);
	}
	return verdict;
}
