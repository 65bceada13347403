/* SPDX-License-Identifier: Apache-2.0 */
/* Echo requests to addresses that no guest has alone: NAT addresses and load balancers. The host answers. */
#pragma once

#include "deliver.h"
#include "encap.h"
#include "rewrite.h"

static __always_inline int is_echo_request(const struct packet *packet)
{
	return packet->fragment == FRAGMENT_NONE &&
	       packet->source_port == (packet->is_ipv6 ? ICMPV6_ECHO_REQUEST : ICMP_ECHO) &&
	       packet->protocol == (packet->is_ipv6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
}

/* Makes the answer of the request: another type, addresses swapped, which leaves their checksums as they are. */
static __always_inline int turn_echo(struct __sk_buff *skb, const struct packet *packet)
{
	__u8 type = packet->is_ipv6 ? ICMPV6_ECHO_REPLY : ICMP_ECHOREPLY;
	__be16 old = bpf_htons(packet->source_port << 8 | packet->icmp_code);
	__be16 fresh = bpf_htons(type << 8 | packet->icmp_code);
	__u32 size = packet->is_ipv6 ? 16 : 4, place = packet->start + (packet->is_ipv6 ? 8 : IPV4_SOURCE);

	if (bpf_l4_csum_replace(skb, packet->transport + ICMP_CHECKSUM, old, fresh, sizeof(fresh)) ||
	    bpf_skb_store_bytes(skb, packet->transport, &type, sizeof(type), 0))
		return drop(DROP_REPLY);
	if (packet->is_ipv6) {
		if (bpf_skb_store_bytes(skb, place, &packet->destination, 16, 0) ||
		    bpf_skb_store_bytes(skb, place + 16, &packet->source, 16, 0))
			return drop(DROP_REPLY);
	} else if (bpf_skb_store_bytes(skb, place, &packet->destination, 4, 0) ||
		   bpf_skb_store_bytes(skb, place + size, &packet->source, 4, 0)) {
		return drop(DROP_REPLY);
	}
	step(ANSWERED, type, 0);
	return NEXT;
}

/* Back to the guest that asked. */
__weak __noinline int answer_guest_echo(struct __sk_buff *skb, __u32 number)
{
	const struct scratch *scratch = get_scratch();

	if (!scratch)
		return drop(DROP_REPLY);
	STEP(turn_echo(skb, &scratch->packet));
	return deliver(skb, number);
}

/* Back through the tunnel that the question came by; its outer header is still on. */
__weak __noinline int answer_tunnel_echo(struct __sk_buff *skb)
{
	const struct scratch *scratch = get_scratch();
	const struct settings *own = get_settings();

	if (!scratch || !own || !scratch->has_outer)
		return drop(DROP_REPLY);
	STEP(turn_echo(skb, &scratch->packet));
	return readdress(skb, same_uplink(skb->ifindex), scratch->packet.length, scratch->packet.is_ipv6, &own->host,
			 &scratch->outer_source);
}

/* The same for an address that is balanced, whether or not it has targets. */
__weak __noinline int answer_balancer_echo(struct __sk_buff *skb)
{
	const struct scratch *scratch = get_scratch();
	const struct balancer *balancer;
	__u32 number;

	if (!scratch)
		return drop(DROP_REPLY);
	number = scratch->function.balancer;
	balancer = bpf_map_lookup_elem(&balancers, &number);
	if (!balancer || balancer->is_ipv6 != scratch->packet.is_ipv6 ||
	    !same_address6(&balancer->address, &scratch->packet.destination))
		return drop(DROP_BALANCER);
	return answer_tunnel_echo(skb);
}
