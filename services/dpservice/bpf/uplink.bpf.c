// SPDX-License-Identifier: Apache-2.0
/* tc ingress of an uplink: what comes out of tunnels, and what the XDP program took out of them before. */
#include "maps.h"
#include "quick.h"
#include "capture.h"
#include "detour.h"
#include "inbound.h"
#include "virtsvc.h"

#ifndef TUNNELLED
#define TUNNELLED ETH_P_IPV6
#endif

/* A packet for a function of this host. */
struct arrival {
	__u32 kind;
	__u32 vni;
	__u32 port;
	__u32 balancer;
	__u32 start;		/* of the inner IP header */
	__be16 type;		/* its EtherType */
	__u8 hop_limit;		/* the outer one */
};

/* Is the outer source one to trust? That of the flow is known to be; entries that name none have zeros there. */
static __always_inline int is_from(const struct arrival *arrival, const union address6 *source, const union address6 *known)
{
	return arrival->start == ETH_HLEN || (source->half[0] && same_address6(source, known)) || is_trusted(source);
}

/* Brings a packet to its guest, and prolongs its flow if it was looked up. */
static __always_inline int bring(struct __sk_buff *skb, const struct arrival *arrival, const union address6 *source,
				 const struct quick *quick, const struct way *way, struct flow *flow)
{
	if (!is_from(arrival, source, &way->underlay))
		return drop(DROP_UNTRUSTED_SOURCE);
	if (flow)
		use_flow(&quick->key, flow);
	if (arrival->start != ETH_HLEN)
		STEP(unwrap(skb, arrival->type));
	if (way->rewrite)
		STEP(rewrite_quickly(skb, quick, way, !flow));
	return deliver(skb, way->port);
}

/* Epochs of where a packet comes in and of the guest that it is for, mostly the same. */
static __always_inline __u32 arrival_epoch(__u32 side, __u32 port)
{
	const __u32 epoch = epoch_of(port);

	if (side >= SIDE_VIP)
		return epoch;
	return epoch + ((side & 0xffff) == port ? epoch : epoch_of(side & 0xffff));
}

/* A flow's packet for which nothing has to be decided; NEXT for all others. */
static __always_inline int carry_from_uplink(struct __sk_buff *skb, const struct arrival *arrival,
					     const union address6 *source)
{
	const __u32 side = side_of(arrival->kind, arrival->port);
	struct quick quick = {};
	struct way way;
	struct flow *flow;

	if (find_shortcut(skb, arrival->start, arrival->type, arrival->vni, side, &quick, &way) &&
	    way.hop == HOP_PORT && way.epoch == arrival_epoch(side, way.port))
		return bring(skb, arrival, source, &quick, &way, 0);
	if (quick_key(skb, arrival->start, arrival->type, &quick))
		return NEXT;
	quick.key.vni = arrival->vni;
	quick.key.side = side;
	flow = quick_flow(&quick.key);
	if (!flow || flow->rewrite & (REWRITE_6TO4 | REWRITE_4TO6))
		return NEXT;
	if (flow->hop == HOP_RELAY) {
		struct scratch *scratch = get_scratch();

		if (!scratch || !is_from(arrival, source, &flow->underlay))
			return drop(DROP_UNTRUSTED_SOURCE);
		scratch->hop_limit = arrival->hop_limit;
		use_flow(&quick.key, flow);
		return relay_onward(skb, flow, arrival->start, quick.length, quick.is_ipv6);
	}
	if (flow->hop != HOP_PORT)
		return NEXT;
	describe_way(&way, flow);
	if (!is_still(&quick.key, flow))
		return NEXT;
	return bring(skb, arrival, source, &quick, &way, flow);
}

static __always_inline int accept(struct __sk_buff *skb, const struct arrival *arrival, const union address6 *source)
{
	struct scratch *scratch;

	STEP(carry_from_uplink(skb, arrival, source));
	if (arrival->start != ETH_HLEN && !is_trusted(source))
		return drop(DROP_UNTRUSTED_SOURCE);
	scratch = get_scratch();
	if (!scratch)
		return drop(DROP_NO_DEVICE);
	scratch->function.kind = arrival->kind;
	scratch->function.vni = arrival->vni;
	scratch->function.port = arrival->port;
	scratch->function.balancer = arrival->balancer;
	scratch->outer_source = *source;
	scratch->has_outer = arrival->start != ETH_HLEN;
	scratch->hop_limit = arrival->hop_limit;
	return inbound(skb, arrival->type);
}

/* The outer header is off. */
static __always_inline int accept_unwrapped(struct __sk_buff *skb, __u32 kind, __u32 vni, __u32 port, __be16 type, __u8 hop_limit)
{
	const struct arrival arrival = {
		.kind = kind, .vni = vni, .port = port, .start = ETH_HLEN, .type = type, .hop_limit = hop_limit,
	};
	const union address6 unknown = {};

	return accept(skb, &arrival, &unknown);
}

/* The outer header is still on. */
static __always_inline int accept_tunnelled(struct __sk_buff *skb)
{
	const struct function *function = 0;
	struct arrival arrival = {};
	enum outer_verdict verdict;
	const struct ipv6hdr *ip;
	union address6 source;
	int service;

	if (skb->protocol != bpf_htons(TUNNELLED) || skb->vlan_present)
		return TC_ACT_OK;
	if (pull(skb, sizeof(struct outer) + 1))
		return TC_ACT_OK;
	ip = (void *)(long)skb->data + ETH_HLEN;
	if ((void *)(ip + 1) + 1 > (void *)(long)skb->data_end)
		return TC_ACT_OK;
	verdict = judge_outer(ip, (void *)(ip + 1), &function, 0);
	if (verdict == OUTER_FOREIGN) {
		service = from_any_service(skb, ip);
		return service == NEXT ? TC_ACT_OK : service;
	}
	if (verdict != OUTER_OURS || !function)
		return drop(outer_reason(verdict));
	arrival.kind = function->kind;
	arrival.vni = function->vni;
	arrival.port = function->port;
	arrival.balancer = function->balancer;
	arrival.start = sizeof(struct outer);
	arrival.hop_limit = ip->hop_limit;
	arrival.type = ip->nexthdr == IPPROTO_IPIP ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
	copy_address(&source, &ip->saddr);
	if (belongs_in_detour(skb) && is_trusted(&source))
		STEP(take_detour(skb, function, ip));
	return accept(skb, &arrival, &source);
}

static __always_inline int receive_from_uplink(struct __sk_buff *skb)
{
	const struct decapsulated *mark;

	capture_uplink(skb, CAPTURE_IN);
	mark = (void *)(long)skb->data_meta;
	if ((void *)(mark + 1) > (void *)(long)skb->data || mark->magic != DECAPSULATED_MAGIC)
		return accept_tunnelled(skb);
	return accept_unwrapped(skb, mark->kind, mark->vni, mark->port, skb->protocol, mark->hop_limit);
}

SEC("tc")
int from_uplink(struct __sk_buff *skb)
{
	return receive_from_uplink(skb);
}

/* tc egress of the detour's device: the tunnel's end. It is everybody's, but only this host's programs let packets in. */
SEC("tc")
int from_detour(struct __sk_buff *skb)
{
	const struct detour_header *header;
	struct detour_use *use;
	struct detour_header copy;

	if (skb->ingress_ifindex != skb->ifindex)
		return skb->ingress_ifindex ? drop(DROP_UNTRUSTED_SOURCE) : TC_ACT_OK;	/* 0: the kernel's own */
	if (pull(skb, sizeof(*header)))
		return TC_ACT_SHOT;
	header = (void *)(long)skb->data;
	if ((void *)(header + 1) > (void *)(long)skb->data_end || header->magic != bpf_htons(DETOUR_MAGIC))
		return TC_ACT_SHOT;
	use = get_detour_use();
	if (use)
		set(use->left, header->number);
	copy = *header;		/* what comes next may move the packet */
	STEP(find_network_header(skb));
	return accept_unwrapped(skb, copy.kind, copy.vni, copy.port, copy.type, copy.hop_limit);
}
