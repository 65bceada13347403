/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Structures that the programs and the daemon share. This is their only definition: the daemon reads the
 * layouts from the object's BTF. Addresses and everything marked "be" are in network byte order.
 */
#pragma once

#include <linux/types.h>

#include "reasons.h"

#define DEVICE_NAME_MAX	64	/* gRPC device names: 63 characters and NUL */
#define DHCP_FRAME_MAX	1024	/* a reply with every option at its limit stays below 800 bytes */

union address6 {
	__u8 byte[16];
	__be32 word[4];
	__be64 half[2];
};

/* How frames get into a guest; chosen by the daemon from the kind of the network device. */
enum delivery {
	DELIVER_NOWHERE,	/* the device is not there (yet) */
	DELIVER_REDIRECT,	/* TAP, or a veth whose peer is in the same namespace */
	DELIVER_PEER,		/* straight into the peer of a veth in another namespace */
};

/* A guest port with an interface. Written by the daemon only. */
struct port {
	__u32 vni;
	__u32 ifindex;
	__be32 ipv4;		/* 0: the interface has no IPv4 */
	enum delivery delivery;
	__u8 mac[6];		/* of the device: what the guest knows as its gateway */
	union address6 ipv6;	/* ::: the interface has no IPv6 */
	union address6 underlay;
	char device[DEVICE_NAME_MAX];
};

/* What a guest showed of itself; survives until the interface goes. Written by the programs. */
struct guest_mac {
	__u8 address[6];
	__u8 known;
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
};

struct hop {
	enum hop_kind kind;
	__u32 port;		/* HOP_PORT */
	union address6 underlay;	/* HOP_REMOTE: the outer destination */
	__u32 vni;		/* HOP_REMOTE: kept for whoever lists routes, never on the wire */
};

/* What an underlay address of this host stands for. */
struct function {
	__u32 kind;		/* as in the model: 1 interface, 6 alias prefix */
	__u32 vni;
	__u32 port;
};

struct trusted_key {
	__u32 prefixlen;	/* 32 bits of zero and the prefix's own length: no padding in the key */
	__u32 zero;
	union address6 address;
};

struct uplink {
	__u32 ifindex;
	__u32 usable;		/* carrier is up and the router's MAC is known */
	__u8 mac[6];
	__u8 router_mac[6];
};

struct settings {
	__u8 generation[16];	/* uuid of the state; all zero: maps were just made */
	__be64 underlay_prefix;	/* upper half of this host's /64 */
	__u8 check_sources;
	__u8 ipv6_overlay;
};

struct dhcp_reply {
	__u32 length;		/* 0: the interface has no IPv4 */
	__u8 frame[DHCP_FRAME_MAX];
};

struct drop_count {
	__u64 packets;
	enum drop_reason reason[0];	/* takes no room: brings the names into the BTF */
};

/* What the XDP program hands to the tc program in front of a packet; merged packets share it. */
struct decapsulated {
	__u32 magic;
	__u32 port;
};

#define DECAPSULATED_MAGIC 0xd0fe44e7
