// SPDX-License-Identifier: Apache-2.0
/*
 * XDP on an uplink: takes the outer header off before the kernel merges segments (GRO), so that a guest gets
 * large packets without tunnel state. What it was for travels in front of the packet to the tc program.
 */
#include "maps.h"
#include "capture.h"
#include "decap.h"

SEC("xdp.frags")
int unwrap_early(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *ethernet = data, copy;
	struct ipv6hdr *ip = data + ETH_HLEN;
	const struct function *function = 0;
	struct decapsulated *mark, fresh = {};
	enum outer_verdict verdict;

	if (captures_uplinks() || (void *)(ip + 1) + 1 > end || ethernet->h_proto != bpf_htons(ETH_P_IPV6))
		return XDP_PASS;
	verdict = judge_outer(ip, (void *)(ip + 1), &function, 1);
	if (verdict == OUTER_FOREIGN)
		return XDP_PASS;
	if (verdict != OUTER_OURS || !function)
		return drop_xdp(outer_reason(verdict));
	if (may_be_relayed(function, ip, end))
		return XDP_PASS;

	fresh.magic = DECAPSULATED_MAGIC;
	fresh.kind = function->kind;
	if (function->kind == FUNCTION_NAT || function->kind == FUNCTION_VIP)
		fresh.hop_limit = ip->hop_limit;
	fresh.vni = function->vni;
	fresh.port = function->port;
	copy = *ethernet;
	copy.h_proto = ip->nexthdr == IPPROTO_IPIP ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
	if (bpf_xdp_adjust_head(ctx, sizeof(*ip)) || bpf_xdp_adjust_meta(ctx, -(int)sizeof(*mark)))
		return drop_xdp(DROP_DECAPSULATION);
	ethernet = (void *)(long)ctx->data;
	mark = (void *)(long)ctx->data_meta;
	if ((void *)(ethernet + 1) > (void *)(long)ctx->data_end || (void *)(mark + 1) > (void *)(long)ctx->data)
		return drop_xdp(DROP_DECAPSULATION);
	*ethernet = copy;
	*mark = fresh;
	return XDP_PASS;
}
