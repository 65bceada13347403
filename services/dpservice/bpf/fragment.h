/* SPDX-License-Identifier: Apache-2.0 */
/* Later fragments have no ports: they take those of their first one, which has to come before them. */
#pragma once

#include "parse.h"

static __always_inline int follow_fragment(struct packet *packet, __u32 vni, __u32 side)
{
	struct fragment_key key = {
		.side = side, .vni = vni, .source = packet->source, .destination = packet->destination,
		.id = packet->fragment_id, .protocol = packet->protocol,
	};
	struct fragment_ports ports = { .source = packet->source_port, .destination = packet->destination_port };
	const struct fragment_ports *first;

	if (packet->fragment == FRAGMENT_NONE)
		return NEXT;
	if (packet->fragment == FRAGMENT_FIRST) {
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
