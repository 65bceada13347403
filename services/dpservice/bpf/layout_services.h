/* SPDX-License-Identifier: Apache-2.0 */
/* Structures of what the gateway does for guests besides forwarding; a part of layout.h. */
#pragma once

#include <linux/types.h>

/* Entries of `programs`. */
enum program_slot {
	PROGRAM_SERVE_GUEST,
	PROGRAM_TO_SERVICE,
	PROGRAM_FROM_SERVICE,
};

#define TEMPLATE_MAX	1024	/* a reply with every option at its limit stays below 800 bytes */

/* What an answer made beforehand is for; as in the daemon's guest services. */
enum template_kind {
	TEMPLATE_DHCP,
	TEMPLATE_DHCP_FIRMWARE,
	TEMPLATE_DHCP_IPXE,
	TEMPLATE_DHCP6,
	TEMPLATE_DHCP6_FIRMWARE,
	TEMPLATE_DHCP6_IPXE,
	TEMPLATE_DHCP6_REFUSAL,
};

struct template_key {
	__u32 port;
	enum template_kind kind;
};

struct template {
	__u32 length;
	__u8 frame[TEMPLATE_MAX];
};

/* Room for building an answer; a program's stack has none. */
struct answer_scratch {
	__u8 client_id[128];
	__u64 words[128];
};


/* What is left of a port's rates: when each bucket will be full again. */
struct meter {
	__u64 total;
	__u64 public;
};

/* Points at which packets are captured: ports by their number, then the uplinks. */
#define POINTS_OF_GUESTS 1024
#define POINTS		 (POINTS_OF_GUESTS + 2)
#define POINT_ANY_UPLINK POINTS

enum capture_direction {	/* as seen by the host: in from a guest or an uplink, out to it */
	CAPTURE_IN = 1,
	CAPTURE_OUT = 2,
};

/* Where mirrored packets go. */
struct mirror {
	union address6 sink;
	union address6 source;
	__be16 source_port;
	__be16 destination_port;
};

/* Who reads records says until when it will. */
struct recorder {
	__u64 until;		/* ns since boot */
	__u32 length;		/* bytes of a packet that are kept, at most RECORD_MAX */
	__u32 padding;
	__u64 lost;
};

#define RECORD_MAX 16384

struct record {
	__u64 time;		/* ns since boot */
	__u32 point;
	enum capture_direction direction;
	__u32 length;		/* of the packet */
	__u32 kept;
	__u8 data[RECORD_MAX];
};

/*
 * A virtual service: what guests reach as an IPv4 address and port is an IPv6 address and port of the underlay. Each
 * connection gets a source port of the service's own underlay address.
 */
struct service {
	__u32 used;		/* 0: no such service */
	__u32 last;		/* source port that was given out last, less SERVICE_FIRST_PORT */
	__be32 address;
	__be16 port;
	__be16 remote_port;
	__u32 protocol;
	union address6 remote;
	union address6 underlay;
};

#define SERVICES	   256
#define SERVICE_FIRST_PORT 1024
#define SERVICE_PORTS	   64512

/* What guests send to. */
struct service_key {
	__be32 address;
	__be16 port;
	__u16 protocol;
};

/* What answers come from. */
struct remote_key {
	union address6 address;
	__be16 port;
	__u16 protocol;
};

/* A guest's end of a connection to a service. */
struct session_key {
	__u32 guest;
	__be32 address;
	__be16 port;
	__u16 service;
};

struct source_port_key {
	__u16 service;
	__u16 port;		/* less SERVICE_FIRST_PORT */
};

enum session_state {
	SESSION_TRANSIENT,
	SESSION_SYN,
	SESSION_SYNACK,
	SESSION_ESTABLISHED,
};

/* Who has a source port of a service; nobody once it has expired. */
struct session {
	__u32 guest;
	__u32 epoch;		/* of the guest's port */
	__be32 address;
	__be16 port;
	__u8 state;		/* enum session_state */
	__u8 padding;
	__u32 expires;		/* ticks */
};
