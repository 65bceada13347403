// SPDX-License-Identifier: Apache-2.0
/*
 * One packet through both programs of the data plane in a test run, encapsulated by one and decapsulated by the other,
 * so that a run ends with the packet it began with. Before each run it may get a random destination.
 */
#include <linux/bpf.h>

/* Without the mark of a tunnel, which would stay on the packet and forbid the next one. */
#define ENCAPSULATION BPF_F_ADJ_ROOM_FIXED_GSO
#define TUNNELLED ETH_P_IP

#include "../../services/dpservice/bpf/guest.bpf.c"
#include "../../services/dpservice/bpf/uplink.bpf.c"

#ifndef DESTINATIONS
#define DESTINATIONS 1	/* a power of two: 11.0.0.5, 11.0.1.5 and so on */
#endif

SEC("tc")
int there_and_back(struct __sk_buff *skb)
{
	__be32 destination = bpf_htonl(0x0b000005 + ((bpf_get_prandom_u32() & (DESTINATIONS - 1)) << 8));
	struct iphdr *ip = (void *)(long)skb->data + ETH_HLEN;

	if ((void *)(ip + 1) > (void *)(long)skb->data_end)
		return TC_ACT_SHOT;
	ip->daddr = destination;
	if (receive_from_guest(skb) != TC_ACT_REDIRECT)
		return TC_ACT_SHOT;
	return receive_from_uplink(skb);
}
