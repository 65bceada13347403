/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An interface's rates limit what its guest sends: all of it, and what leaves by a default route. Over the rate packets
 * are dropped; the bucket is deep enough that TCP, which sends in bursts, comes close to the rate.
 */
#pragma once

#include "bucket.h"
#include "parse.h"

#define RATE_DEPTH	 (NANOSECONDS / 20)	/* how much of the rate may come at once */
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
static __always_inline __u64 bytes_on_wire(const struct __sk_buff *skb, const struct packet *packet)
{
	__u32 headers = packet->transport - ETH_HLEN + (packet->protocol == IPPROTO_TCP ? 20 : sizeof(struct udphdr));

	if (!skb->gso_size || packet->length <= headers)
		return packet->length;
	return packet->length + (packet->length - headers - 1) / skb->gso_size * headers;
}

/* The public rate first: what it refuses has cost nothing of the other. */
static __always_inline int meter(const struct __sk_buff *skb, const struct packet *packet, const struct port *port,
				 __u32 number, int is_public)
{
	struct meter *left;
	__u64 bytes;

	if (!(port->total_rate | (is_public ? port->public_rate : 0)))
		return NEXT;
	left = bpf_map_lookup_elem(&meters, &number);
	if (!left)
		return NEXT;
	bytes = bytes_on_wire(skb, packet);
	if (is_public && port->public_rate && !take_rate(&left->public, bytes, port->public_rate))
		return drop(DROP_METERED);
	if (port->total_rate && !take_rate(&left->total, bytes, port->total_rate))
		return drop(DROP_METERED);
	return NEXT;
}
