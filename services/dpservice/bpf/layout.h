/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Structures that the programs and the daemon share. This is their only definition: the daemon reads the
 * layouts from the object's BTF. Addresses and everything marked "be" are in network byte order.
 */
#pragma once

#include <linux/types.h>

#include "reasons.h"

/* Raised with every change of a struct in a pinned map: a daemon refuses maps of another layout. */
#define LAYOUT_VERSION	4

#define DEVICE_NAME_MAX	64	/* gRPC device names: 63 characters and NUL */

union address6 {
	__u8 byte[16];
	__be32 word[4];
	__be64 half[2];
};

#include "layout_services.h"

/* How frames get into a guest; chosen by the daemon from the kind of the network device. */
enum delivery {
	DELIVER_NOWHERE,	/* the device is not there (yet) */
	DELIVER_REDIRECT,	/* TAP, or a veth whose peer is in the same namespace */
	DELIVER_PEER,		/* straight into the peer of a veth in another namespace */
};

/* A guest port with an interface. Written by the daemon only. What every packet needs is in the first 64 bytes. */
struct port {
	__u32 used;		/* 0: no interface */
	__u32 vni;
	__u32 ifindex;
	enum delivery delivery;
	__u32 epoch;		/* grows when the port's flows end; outlives the interface */
	__be32 ipv4;		/* 0: the interface has no IPv4 */
	__u8 mac[6];		/* of the device: what the guest knows as its gateway */
	__u16 padding;
	union address6 underlay;
	union address6 ipv6;	/* ::: the interface has no IPv6 */
	__be32 vip;		/* 0: none */
	__be32 nat;		/* 0: none */
	__u16 nat_min;		/* host order; nat_max is not included, so it may be 65536 */
	__u16 padding2;
	__u32 nat_max;
	union address6 nat_underlay;
	__u32 total_rate;	/* Mbit/s, 0: unlimited */
	__u32 public_rate;
	char device[DEVICE_NAME_MAX];
};

/* What a guest showed of itself; survives until the interface goes. Written by the programs. */
struct guest_mac {
	__u8 address[6];
	__u8 known;
	__u8 padding;
};

/* What a port holds of tables that all share. Entry 0 is the host itself, a port has its number plus one. */
struct usage {
	__u32 flows;
	__u32 nat_ports;
};

struct route_key4 {
	__u32 prefixlen;	/* 32 bits of VNI and the prefix's own length */
	__be32 vni;
	__be32 address;
};

struct route_key6 {
	__u32 prefixlen;
	__be32 vni;
	union address6 address;
};

enum hop_kind {
	HOP_NONE,
	HOP_PORT,
	HOP_REMOTE,
	HOP_RELAY,		/* flows only: the outer source is the host's own address */
};

struct hop {
	enum hop_kind kind;
	__u32 port;		/* HOP_PORT */
	union address6 underlay;	/* HOP_REMOTE: the outer destination */
	__u32 vni;		/* HOP_REMOTE: kept for whoever lists routes, never on the wire */
	__u32 is_default;	/* the prefix has length 0: what lies behind is public */
};

enum function_kind {		/* as DPDKironcore numbers them */
	FUNCTION_UNDEFINED,
	FUNCTION_INTERFACE,
	FUNCTION_VIP,
	FUNCTION_NAT,
	FUNCTION_BALANCER,
	FUNCTION_BALANCER_PREFIX,
	FUNCTION_ALIAS_PREFIX,
};

/* What an underlay address of this host stands for. */
struct function {
	__u32 kind;		/* enum function_kind */
	__u32 vni;
	__u32 port;
	__u32 balancer;
};

struct public_key {
	__u32 vni;
	__be32 address;
};

#define NO_PORT 0xffffffff

struct public_address {
	__u32 port;		/* whose VIP it is, or NO_PORT: shared by NAT */
};

/* A foreign slice [min, max) of a public address, cut into blocks of 2^n ports. */
struct neighbor_key {
	__u32 prefixlen;	/* 64 bits of VNI and address, and the block's share of the port's 16 bits */
	__be32 vni;
	__be32 address;
	__be16 port;
	__u16 padding;
};

struct neighbor {
	union address6 underlay;
	__u16 min;		/* the slice as the API has it */
	__u16 padding;
	__u32 max;
};

/* Of a port, the addresses that its guest may send from besides its own and its routes. */
struct source_key {
	__u32 prefixlen;	/* 96 bits of port, family and zero, and the prefix's own length */
	__be32 port;
	__be32 is_ipv6;
	__u32 zero;		/* instead of padding, which would be compared as well */
	union address6 address;
};

#define BALANCER_PORTS		16
#define BALANCER_TARGETS	64
#define BALANCER_SLOTS		503

struct balancer_port {
	__u16 port;		/* host order */
	__u8 protocol;
	__u8 padding;
};

struct balancer {
	__u32 vni;
	__u32 is_ipv6;
	union address6 address;
	union address6 underlay;
	__u32 port_count;
	__u32 target_count;
	struct balancer_port ports[BALANCER_PORTS];
	union address6 targets[BALANCER_TARGETS];
	__u8 slots[BALANCER_SLOTS + 1];	/* indexes into targets */
};

struct rule_key {
	__u32 list;
	__u32 index;
};

/* The rules of a port in a direction; entry 2 * port + direction. A list is replaced by a whole new one. */
struct rule_list {
	__u32 list;
	__u32 count;
};

struct rule {
	union address6 source;
	union address6 source_mask;
	union address6 destination;
	union address6 destination_mask;
	__u8 is_ipv6;
	__u8 protocol;		/* 0: any */
	__u8 accept;
	__u8 padding;
	__u16 source_low;
	__u16 source_high;
	__u16 destination_low;
	__u16 destination_high;
	__s16 icmp_type;	/* -1: any */
	__s16 icmp_code;
};

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
	__u8 padding;
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

/* Where the shortcut of a flow may be. */
struct shortcut_pair {
	struct shortcut place[2];
};

#define SHORTCUT_BITS	17	/* pairs: 16 MiB in all */

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

struct trusted_key {
	__u32 prefixlen;	/* 32 bits of zero and the prefix's own length: no padding in the key */
	__u32 zero;
	union address6 address;
};

struct uplink {
	__u32 ifindex;
	__u32 usable;		/* carrier is up and the router's MAC is known */
	__u32 mtu;
	__u32 padding;
	__u8 router_mac[6];	/* as in a frame: the destination in front */
	__u8 mac[6];
};

struct settings {
	__u32 layout;		/* LAYOUT_VERSION */
	__u32 padding;
	__u8 generation[16];	/* uuid of the state; all zero: maps were just made */
	__be64 underlay_prefix;	/* upper half of this host's /64 */
	union address6 host;	/* outer source of what is relayed */
	__u32 flow_timeout;	/* ticks */
	__u32 established_timeout;
	__u32 flow_quota;	/* of a port */
	__u32 host_flow_quota;	/* of relayed flows */
	__u32 nat_quota;	/* NAT ports of a port */
	__u8 first_uplink_slots;	/* of ten; 10: the second uplink only stands in */
	__u8 check_sources;
	__u8 ipv6_overlay;
	__u8 firewall;		/* rules are enforced */
	__u32 answers_per_second;	/* of the gateway, to each guest; 0: no limit */
	__u32 has_services;	/* virtual ones */
};

struct drop_count {
	__u64 packets;
	enum drop_reason reason[0];	/* takes no room: brings the names into the BTF */
};

/* What the XDP program hands to the tc program in front of a packet; merged packets share it. */
struct decapsulated {
	__u32 magic;
	__u16 kind;
	__u16 hop_limit;	/* the outer one of what may have to be sent on, else 0 */
	__u32 vni;
	__u32 port;
};

#define DECAPSULATED_MAGIC 0xd0fe44e8

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

/* What the program that settles received flows answers. */
struct settlement {
	__u32 flows;
	__u32 failed;		/* NAT ports that there was no room for */
};
