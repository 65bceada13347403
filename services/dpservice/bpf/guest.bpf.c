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

/* Sends a packet its way, and prolongs its flow if it was looked up. NEXT: there is something to decide after all. */
static __always_inline int send_from_guest(struct __sk_buff *skb, const struct port *port, __u32 number,
					   const struct quick *quick, const struct way *way, struct flow *flow)
{
	const struct settings *own = get_settings();
	const __u8 protocol = flow ? quick->key.protocol : quick->raw.place >> 24;
	const __u32 transport = ETH_HLEN + (quick->is_ipv6 ? sizeof(struct ipv6hdr) : sizeof(struct iphdr));
	const struct uplink *uplink = 0;

	if (!own || !is_known_sender(skb, number) || has_trailer(skb, quick->length))
		return NEXT;
	if (way->hop != HOP_PORT) {
		uplink = working_uplink(way->uplink);
		if (uplink && !fits(skb, uplink, quick->length, transport, protocol))
			return NEXT;
	}
	if (own->check_sources)
		STEP(check_partial(skb, transport + untouchable(protocol)));
	STEP(meter(skb, port, number, quick->length, way->is_public));
	if (flow)
		use_flow(&quick->key, flow);
	if (way->rewrite)
		STEP(rewrite_quickly(skb, quick, way, !flow));
	if (way->hop == HOP_PORT)
		return deliver(skb, way->port);
	return send_tunnelled(skb, uplink, quick->length, way->hop == HOP_RELAY ? &own->host : &port->underlay,
			      &way->underlay);
}

/* A flow's packet for which nothing has to be decided; NEXT for all others. */
static __always_inline int carry_from_guest(struct __sk_buff *skb, const struct port *port, __u32 number)
{
	struct quick quick = {};
	struct way way;
	struct flow *flow;

	if (skb->vlan_present)
		return NEXT;
	if (find_shortcut(skb, ETH_HLEN, skb->protocol, port->vni, SIDE_GUEST + number, &quick, &way) &&
	    way.epoch == port->epoch + (way.hop == HOP_PORT ? epoch_of(way.port) : 0))
		return send_from_guest(skb, port, number, &quick, &way, 0);
	if (quick_key(skb, ETH_HLEN, skb->protocol, &quick))
		return NEXT;
	quick.key.vni = port->vni;
	quick.key.side = SIDE_GUEST + number;
	flow = quick_flow(&quick.key);
	if (!flow || flow->hop == HOP_NONE || flow->rewrite & (REWRITE_6TO4 | REWRITE_4TO6))
		return NEXT;
	describe_way(&way, flow);
	if (!is_still(&quick.key, flow))
		return NEXT;
	return send_from_guest(skb, port, number, &quick, &way, flow);
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
