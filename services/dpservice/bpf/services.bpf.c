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
	struct packet packet = {};
	int verdict;

	if (skb->protocol == bpf_htons(ETH_P_ARP))
		return answer_arp(skb, port, number);
	verdict = parse_ip(skb, &packet);
	if (verdict != NEXT)
		return verdict;
	if (packet.destination_port == PORT_DHCP_SERVER)
		return packet.is_ipv6 ? drop(DROP_DHCP) : serve_dhcp(skb, number, packet.transport);
	if (packet.destination_port == PORT_DHCP6_SERVER)
		return packet.is_ipv6 ? serve_dhcp6(skb, number, packet.transport) : drop(DROP_DHCP);
	verdict = answer_nd(skb, &packet, port, number);
	return verdict == NEXT ? drop(DROP_NEIGHBOR_DISCOVERY) : verdict;
}

SEC("tc")
int serve_guest(struct __sk_buff *skb)
{
	__u32 device = skb->ifindex, number;
	const struct port *port;
	const __u32 *found;
	int verdict;

	found = bpf_map_lookup_elem(&port_of_device, &device);
	if (!found)
		return drop(DROP_NO_INTERFACE);
	number = *found;
	port = get_port(number);
	if (!port)
		return drop(DROP_NO_INTERFACE);
	verdict = answer(skb, port, number);
	if (verdict == TC_ACT_REDIRECT)
		capture(skb, number, CAPTURE_OUT);
	return verdict;
}
