// SPDX-License-Identifier: Apache-2.0
/*
 * tc egress of an uplink while something is captured: puts the outer headers on mirrored copies, and copies what else
 * leaves when the uplink itself is captured.
 */
#include "maps.h"
#include "capture.h"
#include "parse.h"

#define MIRROR_HOP_LIMIT 64
#define MTU_MIN		 1280	/* RFC 8200, 5 */
#define MTU_USUAL	 1500

struct mirror_headers {
	struct ethhdr ethernet;
	struct ipv6hdr ip;
	struct udphdr udp;
} __attribute__((packed));

/* The copy, cut to what the uplink carries; a large packet that is still to be cut into segments becomes one frame. */
static __always_inline int shorten(struct __sk_buff *skb, const struct uplink *uplink)
{
	__u32 mtu = uplink->mtu < MTU_MIN ? MTU_USUAL : uplink->mtu;
	__u32 limit = mtu + ETH_HLEN - sizeof(struct mirror_headers);

	if (skb->len <= limit && !skb->gso_size)
		return 0;
	return bpf_skb_change_tail(skb, skb->len < limit ? skb->len : limit, 0);
}

static __always_inline int send_mirrored(struct __sk_buff *skb)
{
	struct mirror_headers headers = {};
	__u32 zero = 0, length;
	const struct uplink *uplink = bpf_map_lookup_elem(&uplinks, &zero);
	const struct mirror *to = bpf_map_lookup_elem(&mirror, &zero);
	const struct settings *own = get_settings();

	skb->mark = 0;
	if (!uplink || !to || !own || shorten(skb, uplink))
		return drop(DROP_MIRROR);
	length = skb->len + sizeof(headers.udp);
	if (length > 0xffff)
		return drop(DROP_MIRROR);
	__builtin_memcpy(headers.ethernet.h_dest, uplink->router_mac, ETH_ALEN);
	__builtin_memcpy(headers.ethernet.h_source, uplink->mac, ETH_ALEN);
	headers.ethernet.h_proto = bpf_htons(ETH_P_IPV6);
	headers.ip.version = 6;
	headers.ip.payload_len = bpf_htons(length);
	headers.ip.nexthdr = IPPROTO_UDP;
	headers.ip.hop_limit = MIRROR_HOP_LIMIT;
	__builtin_memcpy(&headers.ip.saddr, &own->host, sizeof(headers.ip.saddr));
	__builtin_memcpy(&headers.ip.daddr, &to->sink, sizeof(headers.ip.daddr));
	headers.udp.source = to->source_port;
	headers.udp.dest = to->destination_port;
	headers.udp.len = bpf_htons(length);
	if (bpf_skb_change_head(skb, sizeof(headers), 0) || bpf_skb_store_bytes(skb, 0, &headers, sizeof(headers), 0))
		return drop(DROP_MIRROR);
	return TC_ACT_OK;
}

SEC("tc")
int to_uplink(struct __sk_buff *skb)
{
	if (skb->mark == MIRROR_MARK)
		return send_mirrored(skb);
	capture_uplink(skb, CAPTURE_OUT);
	return TC_ACT_OK;
}
