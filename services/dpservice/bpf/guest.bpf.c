// SPDX-License-Identifier: Apache-2.0
/* tc ingress of a guest's device: what a guest sends. */
#include "maps.h"
#include "quick.h"
#include "capture.h"
#include "gateway.h"
#include "meter.h"
#include "outbound.h"
#include "partial.h"

static __always_inline int is_known_sender(struct __sk_buff *skb, __u32 number)
{
	const struct guest_mac *guest = bpf_map_lookup_elem(&guest_macs, &number);
	const struct ethhdr *ethernet = (void *)(long)skb->data;
	const struct settings *own = get_settings();

	if (!own || !own->check_sources)
		return 1;
	if (!guest || (void *)(ethernet + 1) > (void *)(long)skb->data_end)
		return 0;
	return guest->known && *(__u32 *)guest->address == *(__u32 *)ethernet->h_source &&
	       *(__u16 *)(guest->address + 4) == *(__u16 *)(ethernet->h_source + 4);
}

/* A flow's packet for which nothing has to be decided; NEXT for all others. */
static __always_inline int carry_from_guest(struct __sk_buff *skb, const struct port *port, __u32 number)
{
	const struct settings *own = get_settings();
	const struct uplink *uplink = 0;
	__u32 now = now_ticks();
	struct quick quick = {};
	struct flow_key key;
	struct flow *flow;

	if (quick_key(skb, ETH_HLEN, skb->protocol, &key, &quick) || skb->vlan_present || !own ||
	    has_trailer(skb, quick.length))
		return NEXT;
	key.vni = port->vni;
	key.side = SIDE_GUEST + number;
	flow = quick_flow(&key, now);
	if (!flow || flow->hop == HOP_NONE || flow->rewrite & (REWRITE_6TO4 | REWRITE_4TO6) ||
	    !is_known_sender(skb, number))
		return NEXT;
	if (flow->hop != HOP_PORT) {
		uplink = working_uplink(flow->uplink);
		if (uplink && !fits(skb, uplink, quick.length))
			return NEXT;
	}
	if (own->check_sources)
		STEP(check_partial(skb, ETH_HLEN + (quick.is_ipv6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr)) +
					untouchable(key.protocol)));
	STEP(meter(skb, port, number, quick.length, flow->flags & FLOW_PUBLIC));
	step(FLOW_FOUND, flow->kind, flow->hop);
	prolong(&key, flow, now);
	if (flow->rewrite)
		STEP(rewrite_ipv4(skb, &key, flow, ETH_HLEN + sizeof(struct iphdr)));
	if (flow->hop == HOP_PORT)
		return deliver(skb, flow->port);
	return encapsulate(skb, uplink, quick.length,
			   flow->hop == HOP_RELAY ? &own->host : &port->underlay, &flow->underlay);
}

static __always_inline int receive_from_guest(struct __sk_buff *skb)
{
	__u32 number = port_of(skb->ifindex);
	const struct port *port;
	int verdict;

	if (number == NO_PORT)
		return drop(DROP_NO_INTERFACE);
	port = get_port(number);
	if (!port || !port->used)
		return drop(DROP_NO_INTERFACE);
	capture(skb, number, CAPTURE_IN);
	STEP(carry_from_guest(skb, port, number));
	verdict = look_at(skb, number);
	if (verdict == FOR_GATEWAY)
		return ask_gateway(skb);
	if (verdict != NEXT)
		return verdict;
	verdict = outbound(skb, number);
	return verdict == FOR_SERVICE ? ask_service(skb) : verdict;
}

SEC("tc")
int from_guest(struct __sk_buff *skb)
{
	return receive_from_guest(skb);
}

char licence_of_programs[] SEC("license") = "Apache-2.0";
