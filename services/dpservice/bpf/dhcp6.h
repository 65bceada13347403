/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DHCPv6 (RFC 8415): the daemon leaves the pieces of a reply for each interface; here they are put together with
 * what the client said of itself. Nothing is kept: every client that asks gets the interface's one address.
 */
#pragma once

#include "answer.h"

#define DHCP6_SOLICIT	   1
#define DHCP6_ADVERTISE	   2
#define DHCP6_REQUEST	   3
#define DHCP6_CONFIRM	   4
#define DHCP6_RENEW	   5
#define DHCP6_REBIND	   6
#define DHCP6_REPLY	   7
#define DHCP6_RELEASE	   8
#define DHCP6_INFORMATION  11

#define OPTION6_CLIENT_ID  1
#define OPTION6_IA_NA	   3
#define OPTION6_RAPID	   14
#define OPTION6_USER	   15
#define OPTION6_VENDOR	   16
#define OPTIONS6_READ	   32
#define CLIENT_ID_MAX	   128	/* RFC 8415 11.1 */
#define IA_NA_MIN	   12
#define CLASS6_VALUE	   2	/* a class begins with its own length */
#define VENDOR6_VALUE	   6	/* behind the enterprise number and that */

/* Offsets in the frame of a reply; behind the head comes IA_NA, then the tail. */
#define REPLY6_LENGTH	   18
#define REPLY6_CLIENT	   38
#define REPLY6_UDP	   54
#define REPLY6_UDP_LENGTH  58
#define REPLY6_CHECKSUM	   60
#define REPLY6_MESSAGE	   62
#define REPLY6_OPTIONS	   66
#define REPLY6_SERVER_MAC  74
#define REPLY6_HEAD	   80
#define REPLY6_IA_NA	   50
#define REPLY6_TAIL	   (REPLY6_HEAD + REPLY6_IA_NA)

struct option6 {
	__be16 code;
	__be16 length;
};

/* The options on the way through them, and the client's words once its frame is overwritten. */
struct dhcp6_request {
	struct __sk_buff *skb;
	__u32 offset;
	__u32 end;
	__u32 vendor;		/* offset of the vendor class */
	__u32 vendor_length;
	__u32 client;		/* offset of the client's id */
	__u32 client_length;
	__be32 iaid;
	__u8 wants_address;
	__u8 rapid;
	__u8 ipxe;
	__u8 malformed;
	__u8 mac[8];
	__u8 message[4];	/* type and transaction id */
};

/* For any byte order and alignment of what is summed. */
struct pseudo6 {
	union address6 source;
	union address6 destination;
	__be32 length;
	__be32 next_header;
};

static __always_inline int malformed6(struct dhcp6_request *request)
{
	request->malformed = 1;
	return 1;
}

static long read_dhcp6_option(__u32 index, struct dhcp6_request *request)
{
	__u32 value = request->offset + sizeof(struct option6), length;
	struct option6 option;
	__be16 inner;

	if (request->offset == request->end)
		return 1;
	if (value > request->end || bpf_skb_load_bytes(request->skb, request->offset, &option, sizeof(option)))
		return malformed6(request);
	length = bpf_ntohs(option.length);
	if (value + length > request->end)
		return malformed6(request);
	request->offset = value + length;
	switch (bpf_ntohs(option.code)) {
	case OPTION6_CLIENT_ID:
		if (length > CLIENT_ID_MAX)
			return malformed6(request);
		request->client = value;
		request->client_length = length;
		break;
	case OPTION6_IA_NA:
		if (length < IA_NA_MIN || bpf_skb_load_bytes(request->skb, value, &request->iaid, sizeof(request->iaid)))
			return malformed6(request);
		request->wants_address = 1;
		break;
	case OPTION6_RAPID:
		if (length)
			return malformed6(request);
		request->rapid = 1;
		break;
	case OPTION6_USER:
		if (length < CLASS6_VALUE || bpf_skb_load_bytes(request->skb, value, &inner, sizeof(inner)))
			break;
		if (bpf_ntohs(inner) + CLASS6_VALUE <= length &&
		    is_ipxe(request->skb, value + CLASS6_VALUE, bpf_ntohs(inner)))
			request->ipxe = 1;
		break;
	case OPTION6_VENDOR:
		if (length < VENDOR6_VALUE)
			break;
		request->vendor = value + VENDOR6_VALUE;
		request->vendor_length = length - VENDOR6_VALUE;
	}
	return 0;
}

/* The type of the answer, or 0 for what is not answered. */
static __always_inline __u8 answer6(__u8 type, int refusing)
{
	switch (type) {
	case DHCP6_SOLICIT:
		return refusing ? DHCP6_REPLY : DHCP6_ADVERTISE;
	case DHCP6_REQUEST:
		return DHCP6_REPLY;
	case DHCP6_CONFIRM:
	case DHCP6_RENEW:
	case DHCP6_REBIND:
	case DHCP6_RELEASE:
	case DHCP6_INFORMATION:
		return refusing ? 0 : DHCP6_REPLY;
	}
	return 0;
}

static __always_inline const struct template *choose_dhcp6(struct __sk_buff *skb, __u32 number,
							   const struct dhcp6_request *request)
{
	const struct template *chosen = 0;

	if (request->ipxe)
		chosen = find_template(number, TEMPLATE_DHCP6_IPXE);
	else if (is_firmware(skb, request->vendor, request->vendor_length))
		chosen = find_template(number, TEMPLATE_DHCP6_FIRMWARE);
	return chosen ? chosen : find_template(number, TEMPLATE_DHCP6);
}

static __always_inline __u16 pseudo_sum6(const struct pseudo6 *pseudo)
{
	return fold((__u32)bpf_csum_diff(0, 0, (__be32 *)pseudo, sizeof(*pseudo), 0));
}

/* The sum of what stands from the UDP header on, `length` bytes. */
static __always_inline int sum_datagram(struct __sk_buff *skb, __u32 length, __u16 *sum)
{
	const __u32 half = sizeof(((struct answer_scratch *)0)->words) / 2;	/* what bpf_csum_diff takes at once */
	struct answer_scratch *scratch;
	__s64 low, high;
	__u32 zero = 0;

	scratch = bpf_map_lookup_elem(&answer_scratch, &zero);
	if (!scratch)
		return -1;
	__builtin_memset(scratch->words, 0, sizeof(scratch->words));
	if (!bound(&length, sizeof(scratch->words)) ||
	    bpf_skb_load_bytes(skb, REPLY6_UDP, scratch->words, length))
		return -1;
	low = bpf_csum_diff(0, 0, (__be32 *)scratch->words, half, 0);
	high = bpf_csum_diff(0, 0, (__be32 *)((__u8 *)scratch->words + half), half, 0);
	*sum = fold((__u64)(__u32)low + (__u32)high);
	return 0;
}

/*
 * Fills in lengths and checksum. In a buffer whose checksum the kernel still has to complete the field must hold the
 * sum over the pseudo header alone: `partial`.
 */
static __always_inline int finish_dhcp6(struct __sk_buff *skb, const union address6 *client, __u32 length, int partial)
{
	struct pseudo6 pseudo = { .destination = *client };
	__be16 size = bpf_htons(length - REPLY6_UDP);
	__u16 sum, checksum;

	pseudo.source.byte[0] = 0xfe;
	pseudo.source.byte[1] = 0x80;
	pseudo.source.byte[15] = 1;
	pseudo.length = bpf_htonl(length - REPLY6_UDP);
	pseudo.next_header = bpf_htonl(IPPROTO_UDP);
	if (bpf_skb_store_bytes(skb, REPLY6_LENGTH, &size, sizeof(size), 0) ||
	    bpf_skb_store_bytes(skb, REPLY6_UDP_LENGTH, &size, sizeof(size), 0))
		return drop(DROP_REPLY);
	checksum = pseudo_sum6(&pseudo);
	if (!partial) {
		if (sum_datagram(skb, length - REPLY6_UDP, &sum))
			return drop(DROP_REPLY);
		checksum = ~fold((__u64)checksum + sum);
		if (!checksum)
			checksum = 0xffff;
	}
	if (bpf_skb_store_bytes(skb, REPLY6_CHECKSUM, &checksum, sizeof(checksum), 0))
		return drop(DROP_REPLY);
	return send_to(skb->ifindex);
}

/* Does the kernel still have to complete the checksum of what the guest sent? */
static __always_inline int is_partial6(struct __sk_buff *skb, __u32 transport)
{
	struct pseudo6 pseudo = {};
	struct udphdr udp;

	if (bpf_skb_load_bytes(skb, transport, &udp, sizeof(udp)) ||
	    bpf_skb_load_bytes(skb, ETH_HLEN + 8, &pseudo, 2 * sizeof(union address6)))
		return 0;
	pseudo.length = bpf_htonl(bpf_ntohs(udp.len));
	pseudo.next_header = bpf_htonl(IPPROTO_UDP);
	return udp.check == pseudo_sum6(&pseudo);
}

static __always_inline int write_head6(struct __sk_buff *skb, const struct template *reply, const struct port *port,
				       const struct dhcp6_request *request, const union address6 *client, __u8 type)
{
	return bpf_skb_store_bytes(skb, 0, reply->frame, REPLY6_HEAD, 0) ||
	       bpf_skb_store_bytes(skb, 0, request->mac, ETH_ALEN, 0) ||
	       bpf_skb_store_bytes(skb, ETH_ALEN, port->mac, ETH_ALEN, 0) ||
	       bpf_skb_store_bytes(skb, REPLY6_CLIENT, client, sizeof(*client), 0) ||
	       bpf_skb_store_bytes(skb, REPLY6_MESSAGE, request->message, sizeof(request->message), 0) ||
	       bpf_skb_store_bytes(skb, REPLY6_MESSAGE, &type, sizeof(type), 0) ||
	       bpf_skb_store_bytes(skb, REPLY6_SERVER_MAC, request->mac, ETH_ALEN, 0);
}

/* Appends an option of the client's; returns the offset behind it, 0 when it could not. */
static __always_inline __u32 append_client_id(struct __sk_buff *skb, __u32 offset, const struct answer_scratch *scratch,
					      __u32 length)
{
	struct option6 option = { .code = bpf_htons(OPTION6_CLIENT_ID), .length = bpf_htons(length) };

	if (!bound(&length, CLIENT_ID_MAX) || bpf_skb_store_bytes(skb, offset, &option, sizeof(option), 0) ||
	    bpf_skb_store_bytes(skb, offset + sizeof(option), scratch->client_id, length, 0))
		return 0;
	return offset + sizeof(option) + length;
}

static __always_inline int send_dhcp6(struct __sk_buff *skb, const struct template *reply, const struct port *port,
				      const struct dhcp6_request *request, const union address6 *client, __u8 type,
				      int partial)
{
	const struct option6 rapid = { .code = bpf_htons(OPTION6_RAPID) };
	__u32 tail = reply->length - REPLY6_TAIL, length, offset = REPLY6_HEAD, zero = 0;
	__u32 client_length = request->client_length;
	struct answer_scratch *scratch = bpf_map_lookup_elem(&answer_scratch, &zero);

	if (!scratch || !bound(&tail, TEMPLATE_MAX - REPLY6_TAIL))
		return drop(DROP_REPLY);
	if (client_length &&
	    (!bound(&client_length, CLIENT_ID_MAX) ||
	     bpf_skb_load_bytes(skb, request->client, scratch->client_id, client_length)))
		return drop(DROP_TRUNCATED);
	length = REPLY6_HEAD + tail + (client_length ? sizeof(rapid) + client_length : 0) +
		 (request->wants_address ? REPLY6_IA_NA : 0) + (request->rapid ? sizeof(rapid) : 0);
	if (bpf_skb_change_tail(skb, length, 0) || write_head6(skb, reply, port, request, client, type))
		return drop(DROP_REPLY);
	if (client_length) {
		offset = append_client_id(skb, offset, scratch, client_length);
		if (!offset)
			return drop(DROP_REPLY);
	}
	if (request->wants_address) {
		if (bpf_skb_store_bytes(skb, offset, reply->frame + REPLY6_HEAD, REPLY6_IA_NA, 0) ||
		    bpf_skb_store_bytes(skb, offset + sizeof(rapid), &request->iaid, sizeof(request->iaid), 0))
			return drop(DROP_REPLY);
		offset += REPLY6_IA_NA;
	}
	if (request->rapid) {
		if (bpf_skb_store_bytes(skb, offset, &rapid, sizeof(rapid), 0))
			return drop(DROP_REPLY);
		offset += sizeof(rapid);
	}
	if (!bound(&tail, TEMPLATE_MAX - REPLY6_TAIL) ||
	    bpf_skb_store_bytes(skb, offset, reply->frame + REPLY6_TAIL, tail, 0))
		return drop(DROP_REPLY);
	return finish_dhcp6(skb, client, length, partial);
}

/* An answer without options (to CONFIRM), or with the one that `reply` has (a refusal). */
static __always_inline int send_short_dhcp6(struct __sk_buff *skb, const struct template *reply, const struct port *port,
					    const struct dhcp6_request *request, const union address6 *client, __u8 type,
					    __u32 length, int partial)
{
	if (bpf_skb_change_tail(skb, REPLY6_HEAD, 0) || write_head6(skb, reply, port, request, client, type) ||
	    bpf_skb_store_bytes(skb, REPLY6_OPTIONS, reply->frame + REPLY6_OPTIONS, REPLY6_HEAD - REPLY6_OPTIONS, 0) ||
	    bpf_skb_change_tail(skb, length, 0))
		return drop(DROP_REPLY);
	return finish_dhcp6(skb, client, length, partial);
}

/* Takes every datagram to a DHCPv6 server. `transport`: offset of the UDP header. */
__weak __noinline int serve_dhcp6(struct __sk_buff *skb, __u32 number, __u32 transport)
{
	__u32 message = transport + sizeof(struct udphdr);
	struct dhcp6_request request = { .skb = skb };
	const struct template *reply, *refusal;
	const struct port *port;
	union address6 client;
	struct udphdr udp;
	__u8 type;
	int partial;

	if (check_budget(number) != NEXT)
		return TC_ACT_SHOT;
	port = bpf_map_lookup_elem(&ports, &number);
	if (!port || bpf_skb_load_bytes(skb, transport, &udp, sizeof(udp)) ||
	    bpf_skb_load_bytes(skb, message, request.message, sizeof(request.message)) ||
	    bpf_skb_load_bytes(skb, ETH_HLEN + 8, &client, sizeof(client)) || source_mac(skb, request.mac))
		return drop(DROP_TRUNCATED);
	if (is_group(request.mac))
		return drop(DROP_SPOOFED_MAC);
	refusal = find_template(number, TEMPLATE_DHCP6_REFUSAL);
	type = answer6(request.message[0], refusal != 0);
	/* Answers go back to the port that asked, by the MAC that asked: any other source than a group's will do. */
	if (!type || client.byte[0] == 0xff)
		return drop(DROP_DHCP);
	request.offset = message + sizeof(request.message);
	request.end = transport + bpf_ntohs(udp.len);
	bpf_loop(OPTIONS6_READ, read_dhcp6_option, &request, 0);
	if (request.malformed || request.offset > request.end)
		return drop(DROP_MALFORMED);
	learn_mac(number, request.mac);
	partial = is_partial6(skb, transport);
	if (refusal)
		return send_short_dhcp6(skb, refusal, port, &request, &client, type, refusal->length, partial);
	reply = choose_dhcp6(skb, number, &request);
	if (!reply)
		return drop(DROP_DHCP);
	if (request.message[0] == DHCP6_CONFIRM)
		return send_short_dhcp6(skb, reply, port, &request, &client, type, REPLY6_OPTIONS, partial);
	if (request.message[0] == DHCP6_INFORMATION)
		request.wants_address = 0;
	return send_dhcp6(skb, reply, port, &request, &client, type, partial);
}
