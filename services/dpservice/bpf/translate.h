/* SPDX-License-Identifier: Apache-2.0 */
/* Between a guest's IPv4 and a virtual service's IPv6: headers exchanged, ports and checksums set right. */
#pragma once

#include "parse.h"

#define IPV6_TRANSPORT (ETH_HLEN + sizeof(struct ipv6hdr))
#define IPV4_TRANSPORT (ETH_HLEN + sizeof(struct iphdr))
#define SUM_CHUNK	512
#define SUM_CHUNKS	20	/* a UDP datagram without a checksum is no longer than a jumbo frame */

struct addresses4 {
	__be32 source;
	__be32 destination;
};

struct addresses6 {
	union address6 source;
	union address6 destination;
};

static __always_inline __u32 checksum_offset(__u8 protocol)
{
	return protocol == IPPROTO_TCP ? __builtin_offsetof(struct tcphdr, check) :
					 __builtin_offsetof(struct udphdr, check);
}

/* Two ports, as they stand in TCP and UDP headers. */
struct ports {
	__be16 source;
	__be16 destination;
};

/* Writes ports and corrects the checksum by them and by `difference`, that of the pseudo headers. */
static __always_inline int write_transport(struct __sk_buff *skb, __u32 transport, __u8 protocol, const struct ports *was,
					   const struct ports *is, __s64 difference)
{
	const __u64 mangled = protocol == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
	__u32 place = transport + checksum_offset(protocol);

	return bpf_l4_csum_replace(skb, place, 0, difference, BPF_F_PSEUDO_HDR | mangled) ||
	       bpf_l4_csum_replace(skb, place, was->source, is->source, sizeof(is->source) | mangled) ||
	       bpf_l4_csum_replace(skb, place, was->destination, is->destination, sizeof(is->destination) | mangled) ||
	       bpf_skb_store_bytes(skb, transport, is, sizeof(*is), 0);
}

/* The sum over what stands from an offset on, piece by piece. */
struct running_sum {
	struct __sk_buff *skb;
	__u32 offset;
	__u32 end;
	__s64 sum;
	__u32 failed;
};

static long sum_chunk(__u32 index, struct running_sum *running)
{
	__u32 zero = 0, length = running->end - running->offset;
	struct answer_scratch *scratch = bpf_map_lookup_elem(&answer_scratch, &zero);

	if (!length)
		return 1;
	if (length > SUM_CHUNK)
		length = SUM_CHUNK;
	if (!scratch || !bound(&length, SUM_CHUNK)) {
		running->failed = 1;
		return 1;
	}
	__builtin_memset(scratch->words, 0, SUM_CHUNK);
	if (bpf_skb_load_bytes(running->skb, running->offset, scratch->words, length)) {
		running->failed = 1;
		return 1;
	}
	running->sum = bpf_csum_diff(0, 0, (__be32 *)scratch->words, SUM_CHUNK, running->sum);
	running->offset += length;
	return 0;
}

/* IPv6 has no datagrams without a checksum: makes one. `length`: of the datagram. */
static __always_inline int make_checksum(struct __sk_buff *skb, const struct addresses6 *addresses, __u32 length)
{
	struct running_sum running = { .skb = skb, .offset = IPV6_TRANSPORT, .end = IPV6_TRANSPORT + length };
	__u16 checksum;

	running.sum = bpf_csum_diff(0, 0, (__be32 *)addresses, sizeof(*addresses), 0);
	bpf_loop(SUM_CHUNKS, sum_chunk, &running, 0);
	if (running.failed || running.offset != running.end)
		return -1;
	checksum = ~fold((__u64)(__u32)running.sum + bpf_htons(length) + bpf_htons(IPPROTO_UDP));
	if (!checksum)
		checksum = 0xffff;
	return bpf_skb_store_bytes(skb, IPV6_TRANSPORT + checksum_offset(IPPROTO_UDP), &checksum, sizeof(checksum), 0);
}
