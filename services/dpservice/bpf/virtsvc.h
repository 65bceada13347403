/* SPDX-License-Identifier: Apache-2.0 */
/* Which packets belong to virtual services, and the way to the programs that translate them. */
#pragma once

#include "parse.h"

static __always_inline int find_service(__be32 address, __be16 port, __u8 protocol, __u32 *index)
{
	struct service_key key = { .address = address, .port = port, .protocol = protocol };
	const __u32 *found = bpf_map_lookup_elem(&service_of, &key);

	if (found)
		*index = *found;
	return found != 0;
}

/* An answer comes from the service and goes to the underlay address that its requests have. */
static __always_inline int find_remote(const struct ipv6hdr *ip, __be16 port, __u32 *index)
{
	struct remote_key key = { .port = port, .protocol = ip->nexthdr };
	const struct service *service;
	const __u32 *found;
	union address6 to;

	__builtin_memcpy(&key.address, &ip->saddr, sizeof(key.address));
	found = bpf_map_lookup_elem(&service_from, &key);
	if (!found)
		return 0;
	*index = *found;
	service = bpf_map_lookup_elem(&services, index);
	__builtin_memcpy(&to, &ip->daddr, sizeof(to));
	return service && same_address6(&service->underlay, &to);
}

static __always_inline int has_services(void)
{
	const struct settings *own = get_settings();

	return own && own->has_services;
}

/* A verdict of the slow path: the sender is checked, the packet is for a virtual service. */
#define FOR_SERVICE (-6)

static __always_inline int is_for_service(const struct packet *packet)
{
	__u32 index;

	return has_services() && !packet->is_ipv6 && packet->fragment != FRAGMENT_LATER &&
	       (packet->protocol == IPPROTO_TCP || packet->protocol == IPPROTO_UDP) &&
	       find_service(packet->destination.word[0], bpf_htons(packet->destination_port), packet->protocol, &index);
}

static __always_inline int ask_service(struct __sk_buff *skb)
{
	step(FOR_SERVICE, 0, 0);
	continue_in(skb, PROGRAM_TO_SERVICE);
	return drop(DROP_SERVICE);
}

/* For the uplink's program: `ip` of a packet that is not tunnelled; NEXT for what is the host's own. */
static __always_inline int from_any_service(struct __sk_buff *skb, const struct ipv6hdr *ip)
{
	struct ipv6hdr copy;
	__u32 index;
	__be16 port;

	if (!has_services() || (ip->nexthdr != IPPROTO_TCP && ip->nexthdr != IPPROTO_UDP))
		return NEXT;
	copy = *ip;
	if (bpf_skb_load_bytes(skb, ETH_HLEN + sizeof(copy), &port, sizeof(port)) || !find_remote(&copy, port, &index))
		return NEXT;
	step(FOR_SERVICE, index, 0);
	continue_in(skb, PROGRAM_FROM_SERVICE);
	return drop(DROP_SERVICE);
}
