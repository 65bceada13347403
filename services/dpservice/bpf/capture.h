/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies of packets as they come in from a guest or an uplink and as they go out to it: mirrored to a sink in the
 * underlay, or recorded for a program on this host. A mirrored copy gets its outer headers where it leaves the first
 * uplink (mirror.bpf.c), so that the packet itself stays as it is.
 */
#pragma once

#include "drop.h"

#define MIRROR_MARK 0xfe44317e	/* a copy on its way to the first uplink */

static __always_inline int is_captured(__u32 point, enum capture_direction direction, __u32 *mirror)
{
	const __u32 *mirrors = bpf_map_lookup_elem(&mirrored, &point);
	const __u32 *records = bpf_map_lookup_elem(&recorded, &point);

	*mirror = mirrors ? *mirrors & direction : 0;
	return *mirror | (records ? *records & direction : 0);
}

static __always_inline void mirror_packet(struct __sk_buff *skb)
{
	__u32 first = 0, mark = skb->mark;
	const struct uplink *uplink = bpf_map_lookup_elem(&uplinks, &first);

	if (!uplink || !uplink->usable) {
		count_drop(DROP_MIRROR);
		return;
	}
	skb->mark = MIRROR_MARK;
	if (bpf_clone_redirect(skb, uplink->ifindex, 0))
		count_drop(DROP_MIRROR);
	skb->mark = mark;
}

static __always_inline void record_packet(struct __sk_buff *skb, __u32 point, enum capture_direction direction)
{
	__u32 zero = 0, length = skb->len;
	struct recorder *reader = bpf_map_lookup_elem(&recorder, &zero);
	struct record *record = bpf_map_lookup_elem(&record_scratch, &zero);
	__u64 now = bpf_ktime_get_ns(), kept;

	if (!reader || !record || reader->until < now)
		return;
	record->time = now;
	record->point = point;
	record->direction = direction;
	record->length = length;
	kept = (__u64)(length < reader->length ? length : reader->length) - 1;
	barrier_var(kept);
	if (kept >= RECORD_MAX)
		return;
	kept++;
	record->kept = kept;
	if (bpf_skb_load_bytes(skb, 0, record->data, kept))
		return;
	kept += __builtin_offsetof(struct record, data);
	if (kept > sizeof(*record) || bpf_ringbuf_output(&records, record, kept, 0))
		__sync_fetch_and_add(&reader->lost, 1);
}

/* Not inlined: what is rarely done should not stand in every packet's way. */
__weak __noinline int copy_packet(struct __sk_buff *skb, __u32 point, __u32 direction, __u32 mirror)
{
	const __u32 *records = bpf_map_lookup_elem(&recorded, &point);

	if (records && *records & direction)
		record_packet(skb, point, direction);
	if (mirror)
		mirror_packet(skb);
	return 0;
}

static __always_inline void capture(struct __sk_buff *skb, __u32 point, enum capture_direction direction)
{
#ifndef DRY_RUN
	__u32 mirror;

	if (is_captured(point, direction, &mirror))
		copy_packet(skb, point, direction, mirror);
#endif
}

/* Is anything of the uplinks captured? Then packets must not lose their outer header before tc sees them. */
static __always_inline int captures_uplinks(void)
{
	__u32 mirror;

	return is_captured(POINT_ANY_UPLINK, CAPTURE_IN | CAPTURE_OUT, &mirror);
}

static __always_inline void capture_uplink(struct __sk_buff *skb, enum capture_direction direction)
{
	__u32 index;

	if (!captures_uplinks())
		return;
#pragma unroll
	for (index = 0; index < UPLINKS; index++) {
		__u32 key = index;
		const struct uplink *uplink = bpf_map_lookup_elem(&uplinks, &key);

		if (uplink && uplink->ifindex == skb->ifindex)
			capture(skb, POINTS_OF_GUESTS + index, direction);
	}
}
