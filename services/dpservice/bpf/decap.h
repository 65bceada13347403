/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is a packet on an uplink one of ours, and for which guest port? Shared by the XDP program, which takes the
 * outer header off before the kernel merges segments, and by the tc program, which does it on other drivers.
 */
#pragma once

#include "parse.h"

#define FUNCTION_RANGE	    0xd0	/* ninth byte of generated addresses: <host prefix>:d000::/68 */
#define FUNCTION_RANGE_MASK 0xf0

enum outer_verdict {
	OUTER_FOREIGN,		/* the host's own business: leave it to the kernel */
	OUTER_OURS,		/* take the header off, the port is known */
	OUTER_UNTRUSTED,
	OUTER_UNKNOWN,
	OUTER_MALFORMED,
};

static __always_inline int is_trusted(const struct in6_addr *source)
{
	struct trusted_key key = { .prefixlen = 32 + 128 };

	__builtin_memcpy(&key.address, source, sizeof(key.address));
	return bpf_map_lookup_elem(&trusted_sources, &key) != 0;
}

/* `inner` is the first byte behind the outer header, readable. */
static __always_inline enum outer_verdict judge_outer(const struct ipv6hdr *ip, const __u8 *inner, __u32 *port)
{
	const struct settings *own = get_settings();
	const struct function *function;
	union address6 destination;

	if (!own || ip->version != 6 || (ip->nexthdr != IPPROTO_IPIP && ip->nexthdr != IPPROTO_IPV6))
		return OUTER_FOREIGN;
	__builtin_memcpy(&destination, &ip->daddr, sizeof(destination));
	if (destination.half[0] != own->underlay_prefix)
		return OUTER_FOREIGN;
	function = bpf_map_lookup_elem(&functions, &destination);
	if (!function)
		return (destination.byte[8] & FUNCTION_RANGE_MASK) == FUNCTION_RANGE ? OUTER_UNKNOWN : OUTER_FOREIGN;
	if (!is_trusted(&ip->saddr))
		return OUTER_UNTRUSTED;
	if (*inner >> 4 != (ip->nexthdr == IPPROTO_IPIP ? 4 : 6))
		return OUTER_MALFORMED;
	*port = function->port;
	return OUTER_OURS;
}

static __always_inline enum drop_reason outer_reason(enum outer_verdict verdict)
{
	switch (verdict) {
	case OUTER_UNTRUSTED:
		return DROP_UNTRUSTED_SOURCE;
	case OUTER_UNKNOWN:
		return DROP_UNKNOWN_UNDERLAY;
	default:
		return DROP_MALFORMED;
	}
}
