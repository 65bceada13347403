/* SPDX-License-Identifier: Apache-2.0 */
/* What the steps of the slow path hand on: too much for the stack, so each processor has one in a map. */
#pragma once

#include <linux/ipv6.h>

#include "effects.h"

enum fragment {
	FRAGMENT_NONE,
	FRAGMENT_FIRST,
	FRAGMENT_LATER,		/* has no layer 4 header */
};

/* What the steps need to know of an overlay packet; the packet itself may move under them. */
struct packet {
	union address6 source;		/* IPv4: in word[0] */
	union address6 destination;
	__u32 length;			/* of the IP packet, from its header */
	__u32 start;			/* offset of the IP header in the frame */
	__u32 transport;		/* offset of the layer 4 header */
	__u32 fragment_id;
	__u16 source_port;		/* host order, as in flow keys: ICMP has its type here */
	__u16 destination_port;		/* ICMP: the identifier */
	__u8 is_ipv6;
	__u8 protocol;
	__u8 tcp_flags;
	__u8 icmp_code;
	__u8 fragment;			/* enum fragment */
	__u8 is_error;			/* an ICMP error about another packet */
};

/* An IPv6 header to be, and behind its addresses what the pseudo header of checksums has besides. */
struct header6 {
	struct ipv6hdr ip;
	__be32 length;
	__be32 next_header;
};

struct scratch {
	struct packet packet;
	struct packet cause;		/* the packet that an ICMP error is about */
	struct flow_key key;
	struct flow_key peer_key;
	struct flow flow;
	struct flow peer;
	struct nat_key mapping_key;
	struct claim_key claim_key;
	union address6 outer_source;
	struct function function;	/* from uplinks: what the outer destination stands for */
	__u32 has_outer;		/* the outer header is still there */
	__u32 hop_limit;		/* from uplinks: the outer one */
	__u32 port;			/* from guests: number of the port */
	__u32 owner;
	__u32 hash;			/* of the key with its discriminator */
	__u32 egress;			/* port whose egress rules count, or NO_PORT */
	__u32 ingress;
	struct header6 header;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} scratches __weak SEC(".maps");

static __always_inline struct scratch *get_scratch(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&scratches, &zero);
}
