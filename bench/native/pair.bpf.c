// SPDX-License-Identifier: Apache-2.0
/*
 * Packets through both programs of the data plane, over the maps of a host that runs: what its guest sends to another
 * host is encapsulated, turned round as if that host had sent it, and decapsulated for the guest. A run ends with the
 * frame it began with, so the kernel can repeat it in one call, which keeps caches as they are under load.
 */
#include <linux/bpf.h>

/* Without the mark of a tunnel, which would stay on the packet and forbid the next encapsulation. */
#define ENCAPSULATION BPF_F_ADJ_ROOM_FIXED_GSO
#define TUNNELLED ETH_P_IP

#include "../../services/dpservice/bpf/guest.bpf.c"
#include "../../services/dpservice/bpf/uplink.bpf.c"

#define FLOWS	     50000	/* twice as many in the table: the guest's, and those of the tunnel */
#define FIRST_SOURCE 1024
#define FIRST_TARGET 4096

static __u32 turn;

/* Makes the frame one of the guest's, of flow `number`. */
__weak __noinline int prepare(struct __sk_buff *skb, __u32 number)
{
	__u32 port = port_of(skb->ifindex);
	const struct guest_mac *guest = bpf_map_lookup_elem(&guest_macs, &port);
	struct ethhdr *ethernet = (void *)(long)skb->data;
	struct iphdr *ip = (void *)(ethernet + 1);
	struct udphdr *udp = (void *)(ip + 1);

	if (!guest || (void *)(udp + 1) > (void *)(long)skb->data_end)
		return 1;
	copy_mac(ethernet->h_source, guest->address);
	udp->source = bpf_htons(FIRST_SOURCE + (number & 0x7fff));
	udp->dest = bpf_htons(FIRST_TARGET + (number >> 15));
	return 0;
}

/* The other host sends it back. */
__weak __noinline int turn_round(struct __sk_buff *skb)
{
	struct outer *outer = (void *)(long)skb->data;
	union address6 source;

	if ((void *)(outer + 1) > (void *)(long)skb->data_end)
		return 1;
	copy_address(&source, &outer->ip.saddr);
	copy_address(&outer->ip.saddr, &outer->ip.daddr);
	copy_address(&outer->ip.daddr, &source);
	return 0;
}

__weak __noinline int send_away(struct __sk_buff *skb)
{
	return receive_from_guest(skb);
}

__weak __noinline int take_back(struct __sk_buff *skb)
{
	return receive_from_uplink(skb);
}

static __always_inline int there_and_back(struct __sk_buff *skb, __u32 number)
{
	if (prepare(skb, number) || send_away(skb) != TC_ACT_REDIRECT || turn_round(skb))
		return TC_ACT_SHOT;
	return take_back(skb);
}

/* Each flow in turn. */
SEC("tc")
int next_flow(struct __sk_buff *skb)
{
	return there_and_back(skb, turn++ % FLOWS);
}

SEC("tc")
int one_flow(struct __sk_buff *skb)
{
	return there_and_back(skb, 0);
}

SEC("tc")
int any_flow(struct __sk_buff *skb)
{
	return there_and_back(skb, (__u64)bpf_get_prandom_u32() * FLOWS >> 32);
}
