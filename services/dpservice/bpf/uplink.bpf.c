// SPDX-License-Identifier: Apache-2.0
/* tc ingress of an uplink: delivers what the XDP program unwrapped, unwraps what it did not see. */
#include "maps.h"
#include "decap.h"
#include "deliver.h"

#ifndef BPF_F_ADJ_ROOM_DECAP_L3_IPV4
#define BPF_F_ADJ_ROOM_DECAP_L3_IPV4 (1ULL << 7)
#define BPF_F_ADJ_ROOM_DECAP_L3_IPV6 (1ULL << 8)
#endif

/* What may leave a tunnel: no DHCP from another host's guest, none of the protocols that guests can't send. */
static __always_inline int deliver_inner(struct __sk_buff *skb, __u32 port)
{
	struct packet packet = {};
	int verdict = parse_ip(skb, &packet);

	if (verdict == NEXT)
		verdict = check_protocol(&packet);
	if (verdict != NEXT)
		return verdict;
	if (packet.destination_port == PORT_DHCP_SERVER || packet.destination_port == PORT_DHCP6_SERVER)
		return drop(DROP_DHCP_FROM_TUNNEL);
	return deliver(skb, port);
}

static __always_inline int unwrap(struct __sk_buff *skb, __u8 next_header)
{
	__be16 type = next_header == IPPROTO_IPIP ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
	__u64 decap = next_header == IPPROTO_IPIP ? BPF_F_ADJ_ROOM_DECAP_L3_IPV4 : BPF_F_ADJ_ROOM_DECAP_L3_IPV6;
	const int room = -(int)sizeof(struct ipv6hdr);

	/* Kernels before 6.4 do not know the decap flags and leave skb->protocol as it was. */
	if (bpf_skb_adjust_room(skb, room, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO | decap) &&
	    bpf_skb_adjust_room(skb, room, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO))
		return drop(DROP_DECAPSULATION);
	if (bpf_skb_store_bytes(skb, 2 * ETH_ALEN, &type, sizeof(type), 0))
		return drop(DROP_DECAPSULATION);
	return NEXT;
}

SEC("tc")
int from_uplink(struct __sk_buff *skb)
{
	const struct decapsulated *mark = (void *)(long)skb->data_meta;
	enum outer_verdict verdict;
	const struct ipv6hdr *ip;
	__u8 next_header;
	__u32 port = 0;

	if ((void *)(mark + 1) <= (void *)(long)skb->data && mark->magic == DECAPSULATED_MAGIC)
		return deliver_inner(skb, mark->port);
	if (skb->protocol != bpf_htons(ETH_P_IPV6) || skb->vlan_present)
		return TC_ACT_OK;
	if (pull(skb, ETH_HLEN + sizeof(*ip) + 1))
		return TC_ACT_OK;
	ip = (void *)(long)skb->data + ETH_HLEN;
	if ((void *)(ip + 1) + 1 > (void *)(long)skb->data_end)
		return TC_ACT_OK;
	verdict = judge_outer(ip, (void *)(ip + 1), &port);
	if (verdict == OUTER_FOREIGN)
		return TC_ACT_OK;
	if (verdict != OUTER_OURS)
		return drop(outer_reason(verdict));
	next_header = ip->nexthdr;
	if (unwrap(skb, next_header) != NEXT)
		return TC_ACT_SHOT;
	return deliver_inner(skb, port);
}
