/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Large packets for TAPs: a TAP takes none that bears the state of a tunnel, the kernel would cut it in software. What
 * takes that state away is the kernel's own end of a tunnel, such as End.DX2 of segment routing (RFC 8986): it takes an
 * IPv6 header and brings the Ethernet frame behind it to a device. So the packet gets an Ethernet header of its own,
 * which tells whom it is for, and is received by a device of ours, where the kernel has a route with that action.
 */
#pragma once

#include "decap.h"
#include "encap.h"
#include "parse.h"

#define DETOUR_MAGIC	0x02fe	/* the first byte is that of an address of one device */
#define DETOUR_TYPE	143		/* IPv6 next header: Ethernet (RFC 8986) */
#define DETOUR_SID	{ .word = { bpf_htonl(0x5f00d0fe), 0, 0, bpf_htonl(1) } }	/* of SRv6's own block, RFC 9602 */

#define DETOUR_MOST	2048	/* packets inside; the kernel's queue of a processor has fewer (net.core.netdev_max_backlog) */

/* In place of an Ethernet header. */
struct detour_header {
	__be16 magic;
	__u16 number;		/* see struct detour_use */
	__u8 kind;		/* enum function_kind */
	__u8 hop_limit;		/* the outer one */
	__u16 port;
	__u32 vni;
	__be16 type;		/* EtherType */
} __attribute__((packed, aligned(2)));

struct detoured {
	struct outer outer;
	struct detour_header header;
} __attribute__((packed, aligned(2)));

static __always_inline struct detour_use *get_detour_use(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&detour_uses, &zero);
}

/*
 * A small packet must not overtake the large one before it: while there are packets inside, it follows them. If none of
 * many came out, then something of this host keeps them: no more go in.
 */
static __always_inline int belongs_in_detour(const struct __sk_buff *skb)
{
	const struct detour_use *use = get_detour_use();
	__s16 inside;

	if (!use)
		return 0;
	inside = use->entered - use->left;
	return inside < DETOUR_MOST && (skb->gso_size || inside > 0);
}

/* Sends a tunnelled packet by the detour; NEXT if there is none, or it is none for it. */
static __always_inline int take_detour(struct __sk_buff *skb, const struct function *function, const struct ipv6hdr *ip)
{
	const struct port *port = get_port(function->port);
	const union address6 sid = DETOUR_SID;
	__u32 zero = 0, length = bpf_ntohs(ip->payload_len) + sizeof(struct detour_header);
	const struct detour *detour = bpf_map_lookup_elem(&detours, &zero);
	struct detour_use *use = get_detour_use();
	struct detour_header header = { .magic = bpf_htons(DETOUR_MAGIC) };
	struct detoured *frame;

	if (!detour || !detour->ifindex || !use || !port || port->delivery != DELIVER_REDIRECT || length > 0xffff ||
	    may_be_relayed(function, ip, (void *)(long)skb->data_end))
		return NEXT;
	header.kind = function->kind;
	header.hop_limit = ip->hop_limit;
	header.port = function->port;
	header.vni = function->vni;
	header.type = ip->nexthdr == IPPROTO_IPIP ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
	/* Not for datagrams: the kernel lets only TCP grow. */
	if (bpf_skb_adjust_room(skb, sizeof(header), BPF_ADJ_ROOM_NET,
				BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET))
		return NEXT;
	if (pull(skb, sizeof(*frame)))
		return drop(DROP_DECAPSULATION);
	frame = (void *)(long)skb->data;
	if ((void *)(frame + 1) > (void *)(long)skb->data_end)
		return drop(DROP_DECAPSULATION);
	copy_mac(frame->outer.ethernet.h_dest, detour->mac);
	frame->outer.ip.nexthdr = DETOUR_TYPE;
	frame->outer.ip.payload_len = bpf_htons(length);
	copy_address(&frame->outer.ip.saddr, &sid);	/* where the route is, as filters of the reverse path want it */
	copy_address(&frame->outer.ip.daddr, &sid);
	header.number = use->entered + 1;
	frame->header = header;
	set(use->entered, header.number);
	return receive_at(detour->ifindex);
}

/*
 * The kernel's action takes the inner Ethernet header for the network's: who cuts the packet, or only looks whether it
 * has to be cut, would not find the IP header. What helps is to take that header off and to put another one in front.
 */
static __always_inline int find_network_header(struct __sk_buff *skb)
{
	struct detour_header header;

	if (bpf_skb_load_bytes_relative(skb, 0, &header, sizeof(header), BPF_HDR_START_NET) ||
	    header.magic != bpf_htons(DETOUR_MAGIC))
		return NEXT;
	if (bpf_skb_adjust_room(skb, -(int)sizeof(header), BPF_ADJ_ROOM_MAC,
				BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET) ||
	    bpf_skb_change_head(skb, sizeof(header), 0) ||
	    bpf_skb_store_bytes(skb, 0, &header, sizeof(header), 0))
		return drop(DROP_DECAPSULATION);
	return NEXT;
}
