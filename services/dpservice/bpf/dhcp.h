/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DHCPv4 (RFC 2131): the daemon leaves finished replies for each interface; here one is patched with what the
 * request decides and sent back, so that guests boot while the daemon is down.
 */
#pragma once

#include "answer.h"

#define DHCP_DISCOVER	1
#define DHCP_OFFER	2
#define DHCP_REQUEST	3
#define DHCP_ACK	5
#define DHCP_MAGIC	0x63825363
#define OPTION_PAD	0
#define OPTION_TYPE	53
#define OPTION_VENDOR	60
#define OPTION_USER	77
#define OPTION_END	255
#define OPTIONS_READ	64	/* what stands behind more options than this is not found */

/* Offsets in the reply frame, whose IPv4 header has no options and whose first option is the message type. */
#define REPLY_SOURCE		26
#define REPLY_DESTINATION	30
#define REPLY_UDP_LENGTH	38
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
	__be32 client;
} __attribute__((packed));

#define BOOTP_OPTIONS	236	/* offset of the magic number */

/* The options on the way through them. */
struct dhcp_walk {
	struct __sk_buff *skb;
	__u32 offset;
	__u32 vendor;		/* offset of the vendor class */
	__u8 vendor_length;
	__u8 type;
	__u8 ipxe;
};

static long read_dhcp_option(__u32 index, struct dhcp_walk *walk)
{
	__u8 option[2];
	__u32 value = walk->offset + sizeof(option);

	if (bpf_skb_load_bytes(walk->skb, walk->offset, option, sizeof(option)) || option[0] == OPTION_END)
		return 1;
	if (option[0] == OPTION_PAD) {
		walk->offset++;
		return 0;
	}
	walk->offset = value + option[1];
	if (option[0] == OPTION_TYPE && option[1] == 1 && bpf_skb_load_bytes(walk->skb, value, option, 1) == 0)
		walk->type = option[0];
	else if (option[0] == OPTION_USER && is_ipxe(walk->skb, value, option[1]))
		walk->ipxe = 1;
	else if (option[0] == OPTION_VENDOR) {
		walk->vendor = value;
		walk->vendor_length = option[1];
	}
	return 0;
}

static __always_inline const struct template *choose_dhcp(struct __sk_buff *skb, __u32 number,
							  const struct dhcp_walk *walk)
{
	const struct template *chosen = 0;

	if (walk->ipxe)
		chosen = find_template(number, TEMPLATE_DHCP_IPXE);
	else if (is_firmware(skb, walk->vendor, walk->vendor_length))
		chosen = find_template(number, TEMPLATE_DHCP_FIRMWARE);
	return chosen ? chosen : find_template(number, TEMPLATE_DHCP);
}

/* Sum over the IPv4 pseudo header of a UDP datagram: `addresses` are both, in the order of the header. */
static __always_inline __u16 pseudo_sum4(const __be32 *addresses, __be16 length)
{
	return fold((__u64)(addresses[0] & 0xffff) + (addresses[0] >> 16) + (addresses[1] & 0xffff) +
		    (addresses[1] >> 16) + bpf_htons(IPPROTO_UDP) + length);
}

/*
 * The reply may go without a checksum, except in a buffer whose checksum the kernel still has to complete: there
 * the field must hold the sum over the pseudo header. A request in such a buffer shows it by the same sum.
 */
static __always_inline __u16 dhcp_checksum(struct __sk_buff *skb, __u32 transport, const struct template *reply)
{
	__be32 addresses[2];
	struct udphdr udp;
	__be16 length;

	if (bpf_skb_load_bytes(skb, transport, &udp, sizeof(udp)) ||
	    bpf_skb_load_bytes(skb, ETH_HLEN + 12, addresses, sizeof(addresses)) || !udp.check ||
	    udp.check != pseudo_sum4(addresses, udp.len))
		return 0;
	__builtin_memcpy(addresses, reply->frame + REPLY_SOURCE, sizeof(addresses));
	__builtin_memcpy(&length, reply->frame + REPLY_UDP_LENGTH, sizeof(length));
	return pseudo_sum4(addresses, length);
}

static __always_inline int send_dhcp(struct __sk_buff *skb, const struct template *reply, const struct port *port,
				     const struct bootp *request, const __u8 *mac, __u8 type, __u16 checksum)
{
	__u32 length = reply->length;

	if (length < REPLY_TYPE + 1 || length > TEMPLATE_MAX)
		return drop(DROP_DHCP);
	if (bpf_skb_change_tail(skb, length, 0) ||
	    bpf_skb_store_bytes(skb, 0, reply->frame, length, 0) ||
	    bpf_skb_store_bytes(skb, ETH_ALEN, port->mac, ETH_ALEN, 0) ||
	    bpf_skb_store_bytes(skb, REPLY_UDP_CHECKSUM, &checksum, sizeof(checksum), 0) ||
	    bpf_skb_store_bytes(skb, REPLY_XID, &request->xid, sizeof(request->xid), 0) ||
	    bpf_skb_store_bytes(skb, REPLY_FLAGS, &request->flags, sizeof(request->flags) + sizeof(request->client), 0) ||
	    bpf_skb_store_bytes(skb, REPLY_CHADDR, mac, ETH_ALEN, 0) ||
	    bpf_skb_store_bytes(skb, REPLY_TYPE, &type, sizeof(type), 0))
		return drop(DROP_REPLY);
	/* The frames for who boots from the network are broadcasts from the start. */
	if (!(reply->frame[0] & 1) && bpf_skb_store_bytes(skb, 0, mac, ETH_ALEN, 0))
		return drop(DROP_REPLY);
	return send_to(skb->ifindex);
}

/* Takes every datagram to a DHCP server, so that no guest can be one. `transport`: offset of the UDP header. */
__weak __noinline int serve_dhcp(struct __sk_buff *skb, __u32 number, __u32 transport)
{
	struct dhcp_walk walk = { .skb = skb };
	__u32 message = transport + sizeof(struct udphdr);
	const struct template *reply;
	const struct port *port;
	struct bootp request;
	__be32 magic;
	__u8 mac[8];

	if (check_budget(number) != NEXT)
		return TC_ACT_SHOT;
	port = bpf_map_lookup_elem(&ports, &number);
	if (!port || bpf_skb_load_bytes(skb, message, &request, sizeof(request)) || source_mac(skb, mac) ||
	    bpf_skb_load_bytes(skb, message + BOOTP_OPTIONS, &magic, sizeof(magic)))
		return drop(DROP_TRUNCATED);
	if (is_group(mac))
		return drop(DROP_SPOOFED_MAC);
	walk.offset = message + BOOTP_OPTIONS + sizeof(magic);
	bpf_loop(OPTIONS_READ, read_dhcp_option, &walk, 0);
	if (magic != bpf_htonl(DHCP_MAGIC) || request.operation != 1 ||
	    (walk.type != DHCP_DISCOVER && walk.type != DHCP_REQUEST))
		return drop(DROP_DHCP);
	reply = choose_dhcp(skb, number, &walk);
	if (!reply)
		return drop(DROP_DHCP);
	learn_mac(number, mac);
	return send_dhcp(skb, reply, port, &request, mac, walk.type == DHCP_DISCOVER ? DHCP_OFFER : DHCP_ACK,
			 dhcp_checksum(skb, transport, reply));
}
