/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything by which a program changes the world other than its packet: writes to maps and where the packet goes.
 * With -DDRY_RUN the same sources change nothing, so that a packet can be tried out over the live maps.
 */
#pragma once

#include "maps.h"

/* Names of the pipeline's steps, for whoever follows a packet. Append only. */
#define STEPS(X)            \
	X(PARSED)           \
	X(FLOW_FOUND)       \
	X(FLOW_MISSING)     \
	X(SOURCE_CHECKED)   \
	X(PUBLIC_FOUND)     \
	X(ROUTED)           \
	X(TRANSLATED)       \
	X(RULE_MATCHED)     \
	X(FLOW_MADE)        \
	X(TARGET_CHOSEN)    \
	X(NEIGHBOR_FOUND)   \
	X(ANSWERED)         \
	X(ENCAPSULATED)     \
	X(DELIVERED)        \
	X(DROPPED)          \
	X(FOR_GATEWAY)      \
	X(FOR_SERVICE)

#define AS_STEP(name) STEP_##name,
enum step {
	STEPS(AS_STEP)
	STEP_COUNT
};
#undef AS_STEP

#ifdef DRY_RUN
#include "trace.h"
#else
#define step(which, a, b)			do { } while (0)
#define table_put(map, key, value, flags)	bpf_map_update_elem(map, key, value, flags)
#define table_take(map, key)			bpf_map_delete_elem(map, key)
#define set(place, value)			((place) = (value))
#define count_up(place)				__sync_fetch_and_add(place, 1)
#define count_up_by(place, more)		__sync_fetch_and_add(place, more)
#define count_down(place)			__sync_fetch_and_sub(place, 1)
#define replaced(place, old, fresh)		(__sync_val_compare_and_swap(place, old, fresh) == (old))
#define send_to(ifindex)			bpf_redirect(ifindex, 0)
#define send_to_peer(ifindex)			bpf_redirect_peer(ifindex, 0)
#define send_copy(skb, ifindex)			bpf_clone_redirect(skb, ifindex, 0)
#define receive_at(ifindex)			bpf_redirect(ifindex, BPF_F_INGRESS)
#define continue_in(skb, slot)			bpf_tail_call(skb, &programs, slot)
#endif
