/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest may leave a checksum to be completed, and says itself where it goes. The kernel writes it after these programs
 * have looked at the packet: at addresses or ports it would make another packet of it.
 */
#pragma once

#include "drop.h"
#include "parse.h"

/* There is no way to ask for ip_summed, but only CHECKSUM_PARTIAL withstands all of this; nothing changes by it. */
static __always_inline int is_partial(struct __sk_buff *skb)
{
	bpf_csum_level(skb, BPF_CSUM_LEVEL_INC);
	if (bpf_csum_level(skb, BPF_CSUM_LEVEL_QUERY) >= 0) {
		bpf_csum_level(skb, BPF_CSUM_LEVEL_DEC);
		return 0;
	}
	return bpf_csum_update(skb, 0) < 0;	/* else CHECKSUM_COMPLETE, which has a sum */
}

/* How much of a protocol's header comes before the first byte that the kernel may write. */
static __always_inline __u32 untouchable(__u8 protocol)
{
	switch (protocol) {
	case IPPROTO_TCP:
		return __builtin_offsetof(struct tcphdr, check);
	case IPPROTO_UDP:
		return __builtin_offsetof(struct udphdr, check);
	}
	return sizeof(struct icmp6hdr);
}

/*
 * Will everything before offset `end` stay as it is? A packet can't be cut within what the kernel still has to write, so
 * the attempt to cut it there has to fail; where it does not, the packet is spoilt and has to be dropped.
 */
static __always_inline int check_partial(struct __sk_buff *skb, __u32 end)
{
	if (!is_partial(skb) || bpf_skb_change_tail(skb, end + 1, 0))
		return NEXT;
	return drop(DROP_CHECKSUM);
}
