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

struct trusted_key {
	__u32 prefixlen;	/* 32 bits of zero and the prefix's own length: no padding in the key */
	__u32 zero;
	union address6 address;
};

struct uplink {
	__u32 ifindex;
	__u32 usable;		/* carrier is up and the router's MAC is known */
	__u32 mtu;
	__u32 is_veth;		/* what is sent by it stays in this kernel */
	__u8 router_mac[6];	/* as in a frame: the destination in front */
	__u8 mac[6];
};

/* Where large packets for TAPs are received once more, see detour.h. */
struct detour {
	__u32 ifindex;		/* 0: there is none */
	__u8 mac[6];		/* its own */
	__u16 padding;
};

/* Of a processor: numbers of the last packets that went into the detour and came out. They differ: some are inside. */
struct detour_use {
	__u16 entered;
	__u16 left;
	__u32 padding;
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

#include "layout_flows.h"
