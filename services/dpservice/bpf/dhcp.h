/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DHCPv4 (RFC 2131): the daemon leaves a finished reply for each interface; here it is patched with what the
 * request decides and sent back, so that guests boot while the daemon is down.
 */
#pragma once

#include "guest.h"

#define DHCP_DISCOVER	1
#define DHCP_OFFER	2
#define DHCP_REQUEST	3
#define DHCP_ACK	5
#define DHCP_MAGIC	0x63825363
#define OPTION_PAD	0
#define OPTION_TYPE	53
#define OPTION_END	255
#define OPTIONS_READ	40	/* a message type behind more options than this is not found */

/* Offsets in the reply frame, whose IPv4 header has no options and whose first option is the message type. */
#define REPLY_UDP_CHECKSUM	40
#define REPLY_XID		46
#define REPLY_FLAGS		52
#define REPLY_CHADDR		70
#define REPLY_TYPE		284

struct bootp {
	__u8 operation;
	__u8 hardware;
	__u8 hardware_size;
	__u8 hops;
	__be32 xid;
	__be16 seconds;
	__be16 flags;
} __attribute__((packed));

#define BOOTP_OPTIONS	236	/* offset of the magic number */

/* The message type of option 53, or 0. */
static __always_inline __u8 dhcp_type(struct __sk_buff *skb, __u32 offset)
{
	__u8 option[3];
	__be32 magic;
	int i;

	if (bpf_skb_load_bytes(skb, offset, &magic, sizeof(magic)) || magic != bpf_htonl(DHCP_MAGIC))
		return 0;
	offset += sizeof(magic);
	for (i = 0; i < OPTIONS_READ; i++) {
		if (bpf_skb_load_bytes(skb, offset, option, sizeof(option)) || option[0] == OPTION_END)
			return 0;
		if (option[0] == OPTION_TYPE)
			return option[1] == 1 ? option[2] : 0;
		offset += option[0] == OPTION_PAD ? 1 : 2 + option[1];
	}
	return 0;
}

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* Sum over the IPv4 pseudo header of a UDP datagram. */
static __always_inline __u16 pseudo_sum(__be32 source, __be32 destination, __u16 length)
{
	return fold((__u64)(source & 0xffff) + (source >> 16) + (destination & 0xffff) + (destination >> 16) +
		    bpf_htons(IPPROTO_UDP) + bpf_htons(length));
}

/*
 * The reply may go without a checksum, except in a buffer whose checksum the kernel still has to complete: there
 * the field must hold the sum over the pseudo header. A request in such a buffer shows it by the same sum.
 */
static __always_inline __u16 reply_checksum(const struct udphdr *request, const struct packet *packet,
					    const struct port *port, __u32 reply_length)
{
	__u16 partial = pseudo_sum(packet->source.word[0], packet->destination.word[0], bpf_ntohs(request->len));

	if (!request->check || request->check != partial)
		return 0;
	return pseudo_sum(bpf_htonl(GATEWAY4), port->ipv4, reply_length - ETH_HLEN - sizeof(struct iphdr));
}

static __always_inline int send_dhcp(struct __sk_buff *skb, const struct dhcp_reply *reply, const struct port *port,
				     const struct bootp *request, const __u8 *mac, __u8 type, __u16 checksum)
{
	__u32 length = reply->length;

	if (length < REPLY_TYPE + 1 || length > DHCP_FRAME_MAX)
		return drop(DROP_DHCP);
	if (bpf_skb_change_tail(skb, length, 0) ||
	    bpf_skb_store_bytes(skb, 0, reply->frame, length, 0) ||
	    bpf_skb_store_bytes(skb, 0, mac, ETH_ALEN, 0) ||
	    bpf_skb_store_bytes(skb, ETH_ALEN, port->mac, ETH_ALEN, 0) ||
	    bpf_skb_store_bytes(skb, REPLY_UDP_CHECKSUM, &checksum, sizeof(checksum), 0) ||
	    bpf_skb_store_bytes(skb, REPLY_XID, &request->xid, sizeof(request->xid), 0) ||
	    bpf_skb_store_bytes(skb, REPLY_FLAGS, &request->flags, sizeof(request->flags), 0) ||
	    bpf_skb_store_bytes(skb, REPLY_CHADDR, mac, ETH_ALEN, 0) ||
	    bpf_skb_store_bytes(skb, REPLY_TYPE, &type, sizeof(type), 0))
		return drop(DROP_REPLY);
	return bpf_redirect(skb->ifindex, 0);
}

/* Takes every datagram to a DHCP server, so that no guest can be one; NEXT for other packets. */
static __always_inline int answer_dhcp(struct __sk_buff *skb, const struct packet *packet, const struct port *port,
				       __u32 number)
{
	__u32 message = packet->transport + sizeof(struct udphdr);
	const struct dhcp_reply *reply;
	struct bootp request;
	struct udphdr udp;
	__u8 mac[8], type;

	if (packet->protocol != IPPROTO_UDP || packet->fragment == FRAGMENT_LATER)
		return NEXT;
	if (packet->destination_port == PORT_DHCP6_SERVER && packet->is_ipv6)
		return drop(DROP_DHCP);
	if (packet->destination_port != PORT_DHCP_SERVER || packet->is_ipv6)
		return NEXT;
	if (bpf_skb_load_bytes(skb, packet->transport, &udp, sizeof(udp)) ||
	    bpf_skb_load_bytes(skb, message, &request, sizeof(request)) || source_mac(skb, mac))
		return drop(DROP_TRUNCATED);
	if (mac[0] & 1)
		return drop(DROP_SPOOFED_MAC);
	type = dhcp_type(skb, message + BOOTP_OPTIONS);
	reply = bpf_map_lookup_elem(&dhcp_replies, &number);
	if (!reply || request.operation != 1 || (type != DHCP_DISCOVER && type != DHCP_REQUEST))
		return drop(DROP_DHCP);
	learn_mac(number, mac);
	return send_dhcp(skb, reply, port, &request, mac, type == DHCP_DISCOVER ? DHCP_OFFER : DHCP_ACK,
			 reply_checksum(&udp, packet, port, reply->length));
}
