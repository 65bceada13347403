/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The dry run of effects.h: what a program would change stays as it is, and its steps are noted. Whoever loads these
 * programs gets a record of its own, the tables are the live ones.
 */
#pragma once

#include <linux/errno.h>

#define TRACE_STEPS 64

struct trace_step {
	enum step which;
	__u32 a;	/* what a and b mean is up to the step */
	__u32 b;
};

struct trace {
	__u32 count;
	struct trace_step steps[TRACE_STEPS];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct trace);
} traces __weak SEC(".maps");

__weak __noinline int record_step(__u32 which, __u32 a, __u32 b)
{
	__u32 zero = 0, at;
	struct trace *trace = bpf_map_lookup_elem(&traces, &zero);

	if (!trace)
		return 0;
	at = trace->count;
	if (at >= TRACE_STEPS)
		return 0;
	trace->steps[at].which = which;
	trace->steps[at].a = a;
	trace->steps[at].b = b;
	trace->count = at + 1;
	return 0;
}

#define step(which, a, b)			record_step(STEP_##which, a, b)
#define table_put(map, key, value, flags)	\
	((void)(value), ((flags) & BPF_NOEXIST) && bpf_map_lookup_elem(map, key) ? -EEXIST : 0)
#define table_take(map, key)			(bpf_map_lookup_elem(map, key) ? 0 : -ENOENT)
#define set(place, value)			((void)(value))
#define count_up(place)				(*(place))
#define count_up_by(place, more)		((void)(more), *(place))
#define count_down(place)			(*(place))
#define replaced(place, old, fresh)		((void)(fresh), 1)
#define send_to(ifindex)			TC_ACT_REDIRECT
#define send_to_peer(ifindex)			TC_ACT_REDIRECT
#define send_copy(skb, ifindex)			((void)(ifindex), -1)
#define receive_at(ifindex)			TC_ACT_REDIRECT
/* The programs of that table are the live ones. Whoever follows a packet sees it end here, and runs ours. */
#define continue_in(skb, slot)			return TC_ACT_REDIRECT
