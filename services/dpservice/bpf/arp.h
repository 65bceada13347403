/* SPDX-License-Identifier: Apache-2.0 */
/* ARP: the gateway 169.254.0.1 answers with the port's MAC and learns the guest's; everything else is dropped. */
#pragma once

#include <linux/if_ether.h>

#include "answer.h"

#define ARPHRD_ETHER	1
#define ARPOP_REQUEST	1
#define ARPOP_REPLY	2
#define GATEWAY4 0xa9fe0001	/* 169.254.0.1 */

struct arp_frame {
	__u8 destination[ETH_ALEN];
	__u8 source[ETH_ALEN];
	__be16 type;
	__be16 hardware;
	__be16 protocol;
	__u8 hardware_size;
	__u8 protocol_size;
	__be16 operation;
	__u8 sender_mac[ETH_ALEN];
	__be32 sender;
	__u8 target_mac[ETH_ALEN];
	__be32 target;
} __attribute__((packed));

static __always_inline int answer_arp(struct __sk_buff *skb, const struct port *port, __u32 number)
{
	struct arp_frame arp;

	if (bpf_skb_load_bytes(skb, 0, &arp, sizeof(arp)))
		return drop(DROP_TRUNCATED);
	if (arp.hardware != bpf_htons(ARPHRD_ETHER) || arp.protocol != bpf_htons(ETH_P_IP) ||
	    arp.hardware_size != ETH_ALEN || arp.protocol_size != sizeof(__be32))
		return drop(DROP_MALFORMED);
	if (!same_mac(arp.source, arp.sender_mac) || is_group(arp.source))
		return drop(DROP_SPOOFED_MAC);
	if (arp.sender && arp.sender == port->ipv4) {
		learn_mac(number, arp.sender_mac);
		if (arp.operation == bpf_htons(ARPOP_REPLY))
			return TC_ACT_SHOT;	/* not lost: it was the answer to the gateway's announcement */
	}
	if (arp.operation != bpf_htons(ARPOP_REQUEST) || arp.target != bpf_htonl(GATEWAY4))
		return drop(DROP_ARP);
	STEP(check_budget(number));

	__builtin_memcpy(arp.destination, arp.source, ETH_ALEN);
	__builtin_memcpy(arp.source, port->mac, ETH_ALEN);
	arp.operation = bpf_htons(ARPOP_REPLY);
	__builtin_memcpy(arp.target_mac, arp.sender_mac, ETH_ALEN);
	arp.target = arp.sender;
	__builtin_memcpy(arp.sender_mac, port->mac, ETH_ALEN);
	arp.sender = bpf_htonl(GATEWAY4);
	if (bpf_skb_store_bytes(skb, 0, &arp, sizeof(arp), 0))
		return drop(DROP_REPLY);
	return send_to(skb->ifindex);
}
