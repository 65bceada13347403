/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a packet: no packet leaves uncounted. */
#pragma once

#include "stages.h"

/* The one place that counts a lost packet. */
static __always_inline void count_drop(enum drop_reason reason)
{
	__u32 key = reason;
	struct drop_count *count = bpf_map_lookup_elem(&drops, &key);

	step(DROPPED, reason, 0);
	if (count)
		set(count->packets, count->packets + 1);
}

/* Use as `return drop(DROP_NO_ROUTE);` in programs at tc. */
static __always_inline int drop(enum drop_reason reason)
{
	count_drop(reason);
	return TC_ACT_SHOT;
}

/* The same for programs at XDP. */
static __always_inline int drop_xdp(enum drop_reason reason)
{
	count_drop(reason);
	return XDP_DROP;
}
