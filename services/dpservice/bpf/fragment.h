/* SPDX-License-Identifier: Apache-2.0 */
/* Later fragments have no ports: they take those of their first one, which has to come before them. */
#pragma once

#include "parse.h"

__weak __noinline int follow_fragment(struct __sk_buff *skb, __u32 vni, __u32 side)
{
	struct scratch *scratch = get_scratch();
	const struct fragment_ports *first;
	struct fragment_ports ports;
	struct fragment_key key;
	struct packet *packet;

	if (!scratch)
		return TC_ACT_SHOT;
	packet = &scratch->packet;
	if (packet->fragment == FRAGMENT_NONE)
		return NEXT;
	key.side = side;
	key.vni = vni;
	key.source = packet->source;
	key.destination = packet->destination;
	key.id = packet->fragment_id;
	key.protocol = packet->protocol;
	if (packet->fragment == FRAGMENT_FIRST) {
		ports.source = packet->source_port;
		ports.destination = packet->destination_port;
		table_put(&fragments, &key, &ports, BPF_ANY);
		return NEXT;
	}
	first = bpf_map_lookup_elem(&fragments, &key);
	if (!first)
		return drop(DROP_FRAGMENT);
	packet->source_port = first->source;
	packet->destination_port = first->destination;
	return NEXT;
}
