/* SPDX-License-Identifier: Apache-2.0 */
/* The last step towards a guest on this host. */
#pragma once

#include "capture.h"
#include "guest.h"

#ifndef PACKET_HOST
#define PACKET_HOST 0
#endif

static __always_inline int deliver(struct __sk_buff *skb, __u32 number)
{
	const struct guest_mac *guest = bpf_map_lookup_elem(&guest_macs, &number);
	const struct port *port = get_port(number);
	struct ethhdr *ethernet;

	if (!port || !guest || port->delivery == DELIVER_NOWHERE)
		return drop(DROP_NO_DEVICE);
	if (pull(skb, sizeof(*ethernet)))
		return drop(DROP_TRUNCATED);
	ethernet = (void *)(long)skb->data;
	if ((void *)(ethernet + 1) > (void *)(long)skb->data_end)
		return drop(DROP_TRUNCATED);
	/* Until a guest spoke it is taken to have its predecessor's MAC, or the port's own, as a virtual function's guest. */
	copy_mac(ethernet->h_dest, has_mac(guest) ? guest->address : port->mac);
	copy_mac(ethernet->h_source, port->mac);
	capture(skb, number, CAPTURE_OUT);
	step(DELIVERED, number, port->ifindex);
	if (port->delivery == DELIVER_REDIRECT)
		return send_to(port->ifindex);
	/* The peer gets the packet without a second look at its Ethernet header. */
	if (skb->pkt_type != PACKET_HOST)
		bpf_skb_change_type(skb, PACKET_HOST);
	return send_to_peer(port->ifindex);
}
