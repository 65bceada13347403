/* SPDX-License-Identifier: Apache-2.0 */
/* A token bucket in one word, the time at which it will be full again (GCRA, ITU-T I.371): CPUs share it unlocked. */
#pragma once

#include "effects.h"

#define NANOSECONDS   1000000000ULL
#define BUCKET_TRIES  4

/* Takes what costs `cost` ns out of a bucket that holds `depth` ns; 0 when there is not enough left. */
static __always_inline int take(__u64 *full_at, __u64 cost, __u64 depth)
{
	__u64 now = bpf_ktime_get_ns(), old, fresh;
	int i;

#pragma unroll
	for (i = 0; i < BUCKET_TRIES; i++) {
		old = *(volatile __u64 *)full_at;
		fresh = (old > now ? old : now) + cost;
		if (fresh > now + depth)
			return 0;
		if (replaced(full_at, old, fresh))
			return 1;
	}
	count_up_by(full_at, cost);	/* others keep getting in between: they may as well wait for us */
	return 1;
}
