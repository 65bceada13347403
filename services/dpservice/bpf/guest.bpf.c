// SPDX-License-Identifier: Apache-2.0
/* tc ingress of a guest's device: what a guest sends. */
#include "maps.h"
#include "arp.h"
#include "dhcp.h"
#include "nd.h"
#include "route.h"
#include "deliver.h"
#include "encap.h"

/* Each step decides or says NEXT. */
#define STEP(call)                      \
	do {                            \
		int verdict = (call);   \
		if (verdict != NEXT)    \
			return verdict; \
	} while (0)

static __always_inline int check_sender(struct __sk_buff *skb, const struct packet *packet, const struct port *port,
					__u32 number)
{
	const struct settings *own = get_settings();

	if (own && !own->check_sources)
		return NEXT;
	STEP(check_mac(skb, number));
	return check_source(packet, port, number);
}

static __always_inline int forward(struct __sk_buff *skb, const struct packet *packet, const struct port *port)
{
	const struct hop *hop = find_hop(port->vni, &packet->destination, packet->is_ipv6);

	if (!hop || hop->kind == HOP_NONE)
		return drop(DROP_NO_ROUTE);
	if (hop->kind == HOP_PORT)
		return deliver(skb, hop->port);
	return encapsulate(skb, packet, &port->underlay, &hop->underlay);
}

SEC("tc")
int from_guest(struct __sk_buff *skb)
{
	__u32 device = skb->ifindex, number;
	struct packet packet = {};
	const struct port *port;
	const __u32 *found;

	found = bpf_map_lookup_elem(&port_of_device, &device);
	if (!found)
		return drop(DROP_NO_INTERFACE);
	number = *found;
	port = bpf_map_lookup_elem(&ports, &number);
	if (!port)
		return drop(DROP_NO_INTERFACE);
	if (skb->protocol == bpf_htons(ETH_P_ARP))
		return answer_arp(skb, port, number);

	STEP(parse_ip(skb, &packet));
	STEP(answer_dhcp(skb, &packet, port, number));
	STEP(answer_nd(skb, &packet, port, number));
	STEP(check_protocol(&packet));
	STEP(check_unicast(&packet));
	STEP(check_sender(skb, &packet, port, number));
	return forward(skb, &packet, port);
}

char licence_of_programs[] SEC("license") = "Apache-2.0";
