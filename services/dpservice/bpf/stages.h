/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stages that a packet goes through when something has to be decided about it. Packets of a flow that is decided pass
 * them all at once and are not counted here. Append only: counters are pinned by number.
 */
#pragma once

#include "effects.h"

#define STAGES(X)        \
	X(ARP)           \
	X(ND)            \
	X(DHCP)          \
	X(DHCP6)         \
	X(DECAPSULATION) \
	X(CONNTRACK)     \
	X(DNAT)          \
	X(ROUTE4)        \
	X(ROUTE6)        \
	X(SNAT)          \
	X(FIREWALL)      \
	X(BALANCER)      \
	X(RELAY)         \
	X(ENCAPSULATION)

#define AS_STAGE(name) STAGE_##name,
enum stage {
	STAGES(AS_STAGE)
	STAGE_COUNT
};
#undef AS_STAGE

static __always_inline void visit(enum stage stage)
{
	__u32 key = stage;
	__u64 *count = bpf_map_lookup_elem(&stages, &key);

	if (count)
		set(*count, *count + 1);
}
