/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NAT64 (RFC 7915, RFC 6146): guests with IPv6 reach 64:ff9b::/96 by their NAT slice. Whole datagrams and echoes only;
 * no errors about them.
 */
#pragma once

#include "answer.h"
#include "rewrite.h"
#include "translate.h"

/* What of a guest's packet NAT64 carries. */
static __always_inline int check_nat64(const struct packet *packet)
{
	if (packet->fragment != FRAGMENT_NONE || packet->transport != packet->start + sizeof(struct ipv6hdr))
		return drop(DROP_NAT64);
	if (packet->protocol == IPPROTO_ICMPV6 && packet->source_port != ICMPV6_ECHO_REQUEST &&
	    packet->source_port != ICMPV6_ECHO_REPLY)
		return drop(DROP_NAT64);
	return NEXT;
}

/* Of an ICMPv6 message the part of its checksum that ICMP's has not. */
struct pseudo6 {
	struct addresses6 addresses;
	__be32 length;
	__be32 next_header;
};

/* Type and identifier of an echo, whose checksum changes by `difference` besides. */
static __always_inline int write_echo(struct __sk_buff *skb, __u32 transport, __u8 old_type, __u8 type, __u16 old_id,
				      __u16 id, __s64 difference)
{
	const __u32 place = transport + ICMP_CHECKSUM;
	__be16 fresh = bpf_htons(id);

	if (bpf_l4_csum_replace(skb, place, 0, difference, 0) ||
	    bpf_l4_csum_replace(skb, place, bpf_htons(old_type << 8), bpf_htons(type << 8), sizeof(fresh)) ||
	    bpf_l4_csum_replace(skb, place, bpf_htons(old_id), fresh, sizeof(fresh)) ||
	    bpf_skb_store_bytes(skb, transport, &type, sizeof(type), 0) ||
	    bpf_skb_store_bytes(skb, transport + ICMP_IDENTIFIER, &fresh, sizeof(fresh), 0))
		return drop(DROP_TRANSLATION);
	return NEXT;
}

static __always_inline int exchange_header(struct __sk_buff *skb, __be16 type, const void *header, __u32 size)
{
	if (bpf_skb_change_proto(skb, type, 0) || bpf_skb_store_bytes(skb, 2 * ETH_ALEN, &type, sizeof(type), 0) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN, header, size, 0))
		return drop(DROP_TRANSLATION);
	return NEXT;
}

static __always_inline int write_layer4(struct __sk_buff *skb, const struct scratch *scratch, __u32 transport,
					__u8 protocol, const struct ports *is, __s64 difference)
{
	struct ports was = { .source = bpf_htons(scratch->packet.source_port),
			     .destination = bpf_htons(scratch->packet.destination_port) };

	step(TRANSLATED, scratch->flow.address, scratch->flow.new_port);
	if (write_transport(skb, transport, protocol, &was, is, difference))
		return drop(DROP_TRANSLATION);
	return NEXT;
}

/* What a guest sends, by scratch->flow. */
__weak __noinline int translate_6to4(struct __sk_buff *skb)
{
	struct scratch *scratch = get_scratch();
	struct iphdr ip = { .version = 4, .ihl = 5 };
	struct pseudo6 was = {};
	struct addresses4 is;
	struct ports ports;
	__u8 head[8], type;
	__s64 difference;
	__u32 length;

	if (!scratch || bpf_skb_load_bytes(skb, ETH_HLEN, head, sizeof(head)))
		return drop(DROP_TRUNCATED);
	length = scratch->packet.length - sizeof(struct ipv6hdr);
	was.addresses.source = scratch->packet.source;
	was.addresses.destination = scratch->packet.destination;
	is.source = scratch->flow.address;
	is.destination = scratch->packet.destination.word[3];
	ip.tos = head[0] << 4 | head[1] >> 4;
	ip.tot_len = bpf_htons(length + sizeof(ip));
	ip.ttl = head[7];
	ip.protocol = scratch->packet.protocol == IPPROTO_ICMPV6 ? IPPROTO_ICMP : scratch->packet.protocol;
	ip.saddr = is.source;
	ip.daddr = is.destination;
	ip.check = ~fold((__u32)bpf_csum_diff(0, 0, (__be32 *)&ip, sizeof(ip), 0));
	scratch->packet.length = length + sizeof(ip);
	STEP(exchange_header(skb, bpf_htons(ETH_P_IP), &ip, sizeof(ip)));
	scratch->packet.is_ipv6 = 0;
	if (ip.protocol == IPPROTO_ICMP) {
		was.length = bpf_htonl(length);
		was.next_header = bpf_htonl(IPPROTO_ICMPV6);
		type = scratch->packet.source_port == ICMPV6_ECHO_REQUEST ? ICMP_ECHO : ICMP_ECHOREPLY;
		difference = bpf_csum_diff((__be32 *)&was, sizeof(was), 0, 0, 0);
		return write_echo(skb, IPV4_TRANSPORT, scratch->packet.source_port, type,
				  scratch->packet.destination_port, scratch->flow.new_port, difference);
	}
	difference = bpf_csum_diff((__be32 *)&was.addresses, sizeof(was.addresses), (__be32 *)&is, sizeof(is), 0);
	ports.source = bpf_htons(scratch->flow.new_port);
	ports.destination = bpf_htons(scratch->packet.destination_port);
	return write_layer4(skb, scratch, IPV4_TRANSPORT, ip.protocol, &ports, difference);
}

/* What a guest gets; IPv4 lets a UDP datagram be without a checksum, IPv6 does not. */
__weak __noinline int translate_4to6(struct __sk_buff *skb)
{
	struct scratch *scratch = get_scratch();
	struct addresses6 *addresses;
	struct header6 *is;
	struct addresses4 was;
	struct ports ports;
	__be16 summed = 1;
	__s64 difference;
	__u32 length;
	__u8 tos[2], ttl, type;

	if (!scratch || bpf_skb_load_bytes(skb, ETH_HLEN, tos, sizeof(tos)) ||
	    bpf_skb_load_bytes(skb, ETH_HLEN + 8, &ttl, sizeof(ttl)))
		return drop(DROP_TRUNCATED);
	if (scratch->packet.fragment != FRAGMENT_NONE || scratch->packet.transport != IPV4_TRANSPORT)
		return drop(DROP_NAT64);
	if (scratch->packet.protocol == IPPROTO_UDP &&
	    bpf_skb_load_bytes(skb, IPV4_TRANSPORT + UDP_CHECKSUM, &summed, sizeof(summed)))
		return drop(DROP_TRUNCATED);
	is = &scratch->header;
	__builtin_memset(is, 0, sizeof(*is));
	is->ip.version = 6;
	addresses = (struct addresses6 *)&is->ip.saddr;
	length = scratch->packet.length - sizeof(struct iphdr);
	was.source = scratch->packet.source.word[0];
	was.destination = scratch->packet.destination.word[0];
	addresses->source.word[0] = bpf_htonl(NAT64_WORD);
	addresses->source.word[3] = was.source;
	addresses->destination = scratch->flow.underlay;
	is->ip.priority = tos[1] >> 4;
	is->ip.flow_lbl[0] = tos[1] << 4;
	is->ip.payload_len = bpf_htons(length);
	is->ip.nexthdr = scratch->packet.protocol == IPPROTO_ICMP ? IPPROTO_ICMPV6 : scratch->packet.protocol;
	is->ip.hop_limit = ttl;
	STEP(exchange_header(skb, bpf_htons(ETH_P_IPV6), &is->ip, sizeof(is->ip)));
	if (is->ip.nexthdr == IPPROTO_ICMPV6) {
		is->length = bpf_htonl(length);
		is->next_header = bpf_htonl(IPPROTO_ICMPV6);
		type = scratch->packet.source_port == ICMP_ECHO ? ICMPV6_ECHO_REQUEST : ICMPV6_ECHO_REPLY;
		difference = bpf_csum_diff(0, 0, (__be32 *)addresses, sizeof(struct pseudo6), 0);
		return write_echo(skb, IPV6_TRANSPORT, scratch->packet.source_port, type,
				  scratch->packet.destination_port, scratch->flow.new_port, difference);
	}
	difference = bpf_csum_diff((__be32 *)&was, sizeof(was), (__be32 *)addresses, sizeof(*addresses), 0);
	ports.source = bpf_htons(scratch->packet.source_port);
	ports.destination = bpf_htons(scratch->flow.new_port);
	STEP(write_layer4(skb, scratch, IPV6_TRANSPORT, is->ip.nexthdr, &ports, difference));
	if (!summed && make_checksum(skb, addresses, length))
		return drop(DROP_TRANSLATION);
	return NEXT;
}
