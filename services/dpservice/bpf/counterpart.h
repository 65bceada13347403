/* SPDX-License-Identifier: Apache-2.0 */
/* Ports of another data plane on this kernel, whose tables are taken over, and which of ours they are. */
#pragma once

#include "maps.h"

#define PORTS 1024

/* Not pinned, as all that is there for a takeover only: it goes when this process does. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PORTS);
	__type(key, __u32);
	__type(value, struct counterpart);
} counterparts __weak SEC(".maps");

/* Our number of a port, in place of the other's; adds the epoch that it has there. 0: there is no such port. */
static __always_inline int translate_port(__u32 *number, __u32 *epoch)
{
	const struct counterpart *found;
	__u32 there = *number & 0xffff;

	found = bpf_map_lookup_elem(&counterparts, &there);
	if (!found || !found->port)
		return 0;
	*number = (*number & ~0xffffU) | (found->port - 1);
	*epoch += found->epoch;
	return 1;
}
