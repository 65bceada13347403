/* SPDX-License-Identifier: Apache-2.0 */
/* NAT64 (RFC 7915, RFC 6146): guests with IPv6 only reach 64:ff9b::/96 by their NAT slice. */
#pragma once

#include "rewrite.h"

/* The packet in the other family, by scratch->flow; whole datagrams only. */
__weak __noinline int translate_family(struct __sk_buff *skb)
{
	return drop(DROP_TRANSLATION);
}
