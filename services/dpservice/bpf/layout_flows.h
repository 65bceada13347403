/* SPDX-License-Identifier: Apache-2.0 */
/* Structures of flows: keys, entries, shortcuts, NAT ports, fragments, and what is asked of those who walk them. */
#pragma once

/*
 * A packet as seen where it enters. The first 44 bytes are the ones that DPDKironcore hashes: integers in host order,
 * IPv4 addresses in the first word; ICMP has its type as source port, its identifier as destination port.
 */
struct flow_key {
	__u32 destination[4];
	__u8 destination_is_ipv6;
	__u8 protocol;
	__u16 destination_port;
	__u32 source[4];
	__u8 source_is_ipv6;
	__u8 discriminator;	/* 0 in the table */
	__u16 source_port;
	__u32 vni;
	__u32 side;		/* where the packet enters: SIDE_x */
};

#define SIDE_GUEST	0x00000	/* plus port number */
#define SIDE_TUNNEL	0x10000	/* plus port number: interface, alias prefix, balancer prefix */
#define SIDE_VIP	0x20000
#define SIDE_NAT	0x30000
#define SIDE_BALANCER	0x40000

enum rewrite {
	REWRITE_SOURCE = 1,
	REWRITE_DESTINATION = 2,
	REWRITE_PORT = 4,	/* besides the address, that side's port or ICMP identifier */
	REWRITE_6TO4 = 8,
	REWRITE_4TO6 = 16,
};

enum flow_flags {
	FLOW_PRIMARY = 1,	/* of the first packet's direction: has the charge of the owner's quota */
	FLOW_HAS_PEER = 2,
	FLOW_HOLDS_PORT = 4,	/* a NAT port goes with it */
	FLOW_PUBLIC = 8,	/* by a default route */
	FLOW_STATELESS = 16,	/* TCP's flags mean nothing here */
};

enum flow_kind {		/* which part of the packet path decided; numbers as DPDKironcore's NAT types */
	FLOW_PLAIN,
	FLOW_VIP,
	FLOW_NAT,
	FLOW_NEIGHBOR,
	FLOW_BALANCER,
};

enum tcp_state {
	TCP_NONE,
	TCP_NEW_SYN,
	TCP_NEW_SYNACK,
	TCP_ESTABLISHED,
	TCP_FINWAIT,
	TCP_RST_FIN,
};

/*
 * One direction of a flow, complete in itself. It holds while `expires` lies ahead and `epoch` is the sum of those of
 * the ports it touches; its hop holds while `revision` is that of its routes.
 */
struct flow {
	__u32 expires;		/* ticks */
	__u32 revision;
	__u32 epoch;
	__u16 bucket;		/* of the routes it depends on */
	__u16 owner;		/* index of its usage */
	__u8 hop;		/* enum hop_kind */
	__u8 flags;
	__u8 rewrite;
	__u8 uplink;		/* preferred */
	__u16 port;		/* HOP_PORT */
	__u16 new_port;		/* host order */
	__be32 address;		/* new address */
	__u32 peer_side;	/* the other direction's */
	__u8 tcp;
	__u8 kind;
	__u8 balancer_prefix;	/* the source is one */
	__u8 mark;		/* between adoption and settlement: another data plane has the entry, too */
	__u64 life;		/* see LIFE_x */
	union address6 underlay;	/* outer destination; 4TO6: the guest's address; else, from tunnels: a source to trust */
};

/*
 * When the entry was made, in ns, which no other entry has: it tells one flow from the next of the same key, also where
 * the memory of one has become the other's. Both directions have the same time.
 */
#define LIFE_ENDING	1	/* somebody removes or replaces it, and nobody else may */
#define LIFE_PEER	2	/* of the direction that is not FLOW_PRIMARY */
#define LIFE_SHIFT	2

#define TICK_SHIFT	27	/* a tick is 2^27 ns, 134 ms */
#define SLACK_SHIFT	2	/* a flow may live longer than its timeout by a quarter, for its expiry is set seldom */
#define SLACK_MAX	128	/* ticks: 17 s */

/* A flow's packets as they come, addresses and ports as they stand in the headers. */
struct shortcut_key {
	__be32 source;
	__be32 destination;
	__be32 ports;		/* source in front */
	__u32 vni;
	__u32 place;		/* side, and the protocol in the highest byte; 0: none */
};

/* What a packet needs to know of its flow. */
struct way {
	__u32 until;		/* ticks: then the flow has to be prolonged */
	__u32 revision;
	__u32 epoch;
	__u16 bucket;
	__u8 hop;		/* enum hop_kind */
	__u8 rewrite : 6;
	__u8 uplink : 1;
	__u8 is_public : 1;
	__u16 port;
	__u16 new_port;
	__be32 address;
	union address6 underlay;
};

/* A cache line. */
struct shortcut {
	__u32 turn;		/* odd: being written */
	struct shortcut_key key;
	struct way way;
};

/* Places next to each other; that of a flow is in one of two such pairs. */
struct shortcut_pair {
	struct shortcut place[2];
};

#define SHORTCUT_BITS	17	/* pairs: 16 MiB in all */
#define NEAR_BITS	11	/* of these, in one neighbourhood: 64 pages, which a processor's table of pages has room for */

#define ROUTE_BUCKETS	4096	/* entries of `revisions` behind the first, which is everybody's */

struct nat_key {
	__u32 vni;
	__u32 address[4];
	__u32 port;		/* is_ipv6 + (port or identifier << 8): with the above the 23 bytes that are hashed */
};

struct nat_mapping {
	__be32 address;
	__u16 port;		/* host order */
	__u16 owner;
	__u32 users;		/* flows; without any it is about to go */
	__u32 born;		/* changes together with `users` as one word: tells this mapping from the next in its memory */
} __attribute__((aligned(8)));

/* A NAT port towards one destination. */
struct claim_key {
	__be32 nat;
	__be32 destination;
	__u16 nat_port;
	__u16 destination_port;
	__u32 protocol;
};

/* Each interface has places of its own for its packets in fragments, apart for what it sends and for what it gets. */
#define FRAGMENT_PLACES	   64
#define FRAGMENTS_SENT	   0	/* plus port number */
#define FRAGMENTS_RECEIVED 1024	/* plus port number, also by its VIP and NAT addresses */
#define FRAGMENTS_BALANCED 2048	/* plus the number of the balancer */
#define FRAGMENT_OWNERS	   2304

struct fragment_place {
	__u32 owner;
	__u32 index;
};

struct fragment_key {
	__u32 side;
	__u32 vni;
	union address6 source;
	union address6 destination;
	__u32 id;
	__u32 protocol;
};

/* The first fragment of a packet. */
struct first_fragment {
	struct fragment_key key;
	__u16 source_port;
	__u16 destination_port;
	__u32 until;		/* ticks */
};

/* What the daemon asks of the program that walks the flow table, and what it gets back. */
enum sweep_kind {
	SWEEP_EXPIRED,
	SWEEP_PORT,
	SWEEP_VIP,
	SWEEP_NAT,
	SWEEP_DESTINATION,
	SWEEP_NEIGHBOR,
	SWEEP_UNDERLAY,
	SWEEP_DESTINATION6,
	SWEEP_UNTRANSLATED,
};

struct sweep {
	__u32 kind;		/* enum sweep_kind */
	__u32 now;		/* ticks: this kind of program is not told the cheap clock */
	__u32 port;
	__u32 vni;
	__u32 address;		/* host order, as in flow keys */
	__u32 min;		/* SWEEP_UNTRANSLATED: NAT64 as well */
	__u32 max;
	union address6 underlay;	/* SWEEP_DESTINATION6: the address */
	__u32 flows;		/* answers: entries seen and entries removed */
	__u32 removed;
	__u32 padding;
};

/* What the program that settles received flows is asked, and answers. */
struct settlement {
	__u32 only_marked;	/* others are gone where they came from, and go here */
	__u32 flows;
	__u32 failed;		/* NAT ports that there was no room for */
};

/* By a port's number in another data plane. */
struct counterpart {
	__u32 port;		/* here, plus one; 0: it is not here */
	__u32 epoch;		/* there */
};

/* What the daemon asks of the program that takes over what is in another data plane's tables, and what it gets back. */
struct adoption {
	__u32 missing_only;	/* packets use the tables meanwhile */
	__u32 now;		/* ticks */
	__u32 seen;		/* answers: entries there */
	__u32 added;		/* here; with `missing_only` flows */
	__u32 failed;		/* for lack of room */
};
