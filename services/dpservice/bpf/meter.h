/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An interface's rates limit what its guest sends: all of it, and what leaves by a default route. Over the rate packets
 * are dropped. Nothing is queued, so TCP's round trips stay short and a loss costs it a retransmission timeout: the
 * bucket is deep enough that what was not sent meanwhile may be sent then.
 */
#pragma once

#include "bucket.h"
#include "parse.h"

#define RATE_DEPTH	 (3 * NANOSECONDS / 10)	/* how much of the rate may come at once: TCP waits 200 ms after losses */
#define HEADERS		 40	/* of IPv4 and TCP */
#define RATE_DEPTH_BYTES (2 * 65536)		/* at least: two of the largest packets */

/* Mbit/s: a bit takes 1000 / rate ns. */
static __always_inline __u64 duration(__u64 bytes, __u32 rate)
{
	return bytes * 8000 / rate;
}

static __always_inline int take_rate(__u64 *full_at, __u64 bytes, __u32 rate)
{
	__u64 least = duration(RATE_DEPTH_BYTES, rate);

	return take(full_at, duration(bytes, rate), least > RATE_DEPTH ? least : RATE_DEPTH);
}

/* What the packet takes on a wire: a large one goes as many, each with headers of its own. */
static __always_inline __u64 bytes_on_wire(const struct __sk_buff *skb, __u32 length)
{
	return skb->gso_size && length ? length + (length - 1) / skb->gso_size * HEADERS : length;
}

/* The public rate first: what it refuses has cost nothing of the other. */
__weak __noinline int take_rates(struct __sk_buff *skb, __u32 number, __u32 length, __u32 is_public)
{
	struct meter *left = bpf_map_lookup_elem(&meters, &number);
	const struct port *port = get_port(number);
	__u64 bytes = bytes_on_wire(skb, length);

	if (!left || !port)
		return NEXT;
	if (is_public && port->public_rate && !take_rate(&left->public, bytes, port->public_rate))
		return drop(DROP_METERED);
	if (port->total_rate && !take_rate(&left->total, bytes, port->total_rate))
		return drop(DROP_METERED);
	return NEXT;
}

/* Most ports have no rates and pay for none. */
static __always_inline int meter(struct __sk_buff *skb, const struct port *port, __u32 number, __u32 length,
				 __u32 is_public)
{
	return port->total_rate | port->public_rate ? take_rates(skb, number, length, is_public) : NEXT;
}
