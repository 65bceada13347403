/* SPDX-License-Identifier: Apache-2.0 */
/* Packets that do not fit into the tunnel are answered with what fits (RFC 1191, RFC 8201). */
#pragma once

#include "deliver.h"
#include "route.h"

/* Does an IP packet of that length fit? Segments of a GSO packet are cut to the guest's own size. */
static __always_inline int fits(struct __sk_buff *skb, const struct uplink *uplink, __u32 length)
{
	return !uplink->mtu || length + sizeof(struct ipv6hdr) <= uplink->mtu || skb->gso_size;
}

__weak __noinline int check_length(struct __sk_buff *skb, __u32 number)
{
	const struct scratch *scratch = get_scratch();
	const struct uplink *uplink;

	if (!scratch || scratch->flow.hop == HOP_PORT)
		return NEXT;
	uplink = working_uplink(scratch->flow.uplink);
	if (!uplink || fits(skb, uplink, scratch->packet.length))
		return NEXT;
	return drop(DROP_TOO_BIG);
}
