/* SPDX-License-Identifier: Apache-2.0 */
/* The reasons for which a packet is dropped; one line each. Append only: counters are pinned by number. */
#pragma once

#define DROP_REASONS(X)                                                             \
	X(NO_INTERFACE,       "the guest port has no interface")                    \
	X(TRUNCATED,          "a header or the packet is cut short")                \
	X(TAGGED,             "the frame has a VLAN tag")                           \
	X(NOT_IP,             "neither IP nor ARP")                                 \
	X(MALFORMED,          "a header contradicts itself")                        \
	X(SPOOFED_MAC,        "the source MAC is not the guest's")                  \
	X(SPOOFED_ADDRESS,    "the source address is not the guest's")              \
	X(PROTOCOL,           "only TCP, UDP, ICMP and ICMPv6 are forwarded")       \
	X(NOT_UNICAST,        "multicast, broadcast and link-local go nowhere")     \
	X(NO_ROUTE,           "nothing in the VNI matches the destination")         \
	X(NO_UPLINK,          "no uplink has carrier and a router")                 \
	X(ENCAPSULATION,      "the outer header could not be put on")               \
	X(DECAPSULATION,      "the outer header could not be taken off")            \
	X(UNTRUSTED_SOURCE,   "the outer source is no hypervisor or router of ours") \
	X(UNKNOWN_UNDERLAY,   "no interface owns the outer destination")            \
	X(NO_DEVICE,          "the interface's device is not there")                \
	X(ARP,                "ARP for something other than the gateway")           \
	X(NEIGHBOR_DISCOVERY, "ND for something other than the gateway, or off")    \
	X(DHCP,               "a DHCP message that is not answered")                \
	X(DHCP_FROM_TUNNEL,   "DHCP never crosses a tunnel")                        \
	X(REPLY,              "an answer to the guest could not be built")         \
	X(FIREWALL,           "the firewall of an interface refuses it")            \
	X(FLOW_QUOTA,         "the interface holds as many flows as it may")        \
	X(FLOW_TABLE,         "the flow table is full")                             \
	X(NAT_PORTS,          "no NAT port is free for this destination")           \
	X(NAT_QUOTA,          "the interface holds as many NAT ports as it may")    \
	X(NAT_TABLE,          "the table of NAT ports is full")                     \
	X(NAT_NO_OWNER,       "nobody owns that port of a shared public address")   \
	X(TRANSLATION,        "an address or port could not be rewritten")          \
	X(NO_TRANSIT,         "a tunnel must not lead into the next one")           \
	X(BALANCER,           "not what the load balancer balances")                \
	X(BALANCER_NO_TARGET, "the load balancer has no target")                    \
	X(ICMP_ERROR,         "an ICMP error that no flow caused or that is not forwarded") \
	X(FRAGMENT,           "a fragment whose first one was not seen")            \
	X(TOO_BIG,            "longer than the tunnel carries; the guest was told") \
	X(FLOW_RACE,          "two processors began the same flow at once")         \
	X(ANSWER_LIMIT,       "the guest asked its gateway too often")              \
	X(METERED,            "the interface's rate is used up")                    \
	X(MIRROR,             "a captured packet's copy could not be sent")         \
	X(SERVICE,            "a virtual service can't carry such a packet")        \
	X(SERVICE_PORTS,      "a virtual service has no source port left")          \
	X(SERVICE_QUOTA,      "the guest has its share of sessions with virtual services") \
	X(SERVICE_SESSION,    "an answer of a virtual service that nobody asked for")  \
	X(NAT64,              "what NAT64 does not translate: fragments, errors")   \
	X(CHECKSUM,           "its checksum would be written over its addresses or ports") \
	X(HOP_LIMIT,          "hosts pass it on to each other in a circle")          \
	X(FRAGMENT_SHARE,     "a fragment whose first one gave way to others of the same interface")

#define AS_ENUM(name, text) DROP_##name,
enum drop_reason {
	DROP_REASONS(AS_ENUM)
	DROP_REASON_COUNT
};
#undef AS_ENUM
