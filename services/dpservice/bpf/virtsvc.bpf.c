// SPDX-License-Identifier: Apache-2.0
/*
 * Virtual services: guests reach services of the underlay, which are IPv6, by an IPv4 address and port. The ingress
 * programs of guests' devices (requests) and of uplinks (answers) continue here.
 */
#include "maps.h"
#include "answer.h"
#include "deliver.h"
#include "route.h"
#include "session.h"
#include "translate.h"
#include "virtsvc.h"

/* The hash that peers compute too, over a guest's port, layer 4 port and address. */
static __always_inline __u32 hash_session(const struct session_key *key)
{
	__u32 a = JHASH_GOLDEN + 8 + JHASH_INITIAL, b = a, c = a;

	/* Ports of the original are numbered behind its two uplinks. */
	a += ((key->guest + UPLINKS) & 0xffff) | (__u32)key->port << 16;
	b += key->address;
	JHASH_FINAL(a, b, c);
	return c;
}

/* What a guest's packet has that its translation keeps. */
struct request {
	struct iphdr ip;
	struct ports ports;
	__be16 checksum;
	__u8 flags;
};

static __always_inline int read_request(struct __sk_buff *skb, struct request *request)
{
	if (bpf_skb_load_bytes(skb, ETH_HLEN, &request->ip, sizeof(request->ip)))
		return drop(DROP_TRUNCATED);
	/* The ports of a later fragment are elsewhere, and options have no place in an IPv6 header. */
	if (request->ip.ihl != 5 || request->ip.frag_off & bpf_htons(0x3fff))
		return drop(DROP_SERVICE);
	request->flags = 0;
	if (request->ip.protocol == IPPROTO_TCP &&
	    bpf_skb_load_bytes(skb, IPV4_TRANSPORT + 13, &request->flags, sizeof(request->flags)))
		return drop(DROP_TRUNCATED);
	if (bpf_skb_load_bytes(skb, IPV4_TRANSPORT, &request->ports, sizeof(request->ports)) ||
	    bpf_skb_load_bytes(skb, IPV4_TRANSPORT + checksum_offset(request->ip.protocol), &request->checksum,
			       sizeof(request->checksum)))
		return drop(DROP_TRUNCATED);
	return NEXT;
}

static __always_inline int send_request(struct __sk_buff *skb, const struct request *request,
					const struct service *service, const struct session_key *key, __u16 source_port)
{
	struct addresses4 was = { .source = request->ip.saddr, .destination = request->ip.daddr };
	struct addresses6 is = { .source = service->underlay, .destination = service->remote };
	struct ports ports = { .source = bpf_htons(source_port), .destination = service->remote_port };
	const struct uplink *uplink = working_uplink(preferred_uplink(hash_session(key)));
	struct ethhdr ethernet = { .h_proto = bpf_htons(ETH_P_IPV6) };
	__u32 length = bpf_ntohs(request->ip.tot_len) - sizeof(struct iphdr);
	struct ipv6hdr ip = { .version = 6 };
	__s64 difference;

	if (!uplink)
		return drop(DROP_NO_UPLINK);
	__builtin_memcpy(ethernet.h_dest, uplink->router_mac, ETH_ALEN);
	__builtin_memcpy(ethernet.h_source, uplink->mac, ETH_ALEN);
	ip.payload_len = bpf_htons(length);
	ip.nexthdr = request->ip.protocol;
	ip.hop_limit = request->ip.ttl;
	__builtin_memcpy(&ip.saddr, &is.source, sizeof(ip.saddr));
	__builtin_memcpy(&ip.daddr, &is.destination, sizeof(ip.daddr));
	difference = bpf_csum_diff((__be32 *)&was, sizeof(was), (__be32 *)&is, sizeof(is), 0);
	if (bpf_skb_change_proto(skb, bpf_htons(ETH_P_IPV6), 0) ||
	    bpf_skb_store_bytes(skb, 0, &ethernet, sizeof(ethernet), 0) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN, &ip, sizeof(ip), 0) ||
	    write_transport(skb, IPV6_TRANSPORT, ip.nexthdr, &request->ports, &ports, difference))
		return drop(DROP_SERVICE);
	if (ip.nexthdr == IPPROTO_UDP && !request->checksum && make_checksum(skb, &is, length))
		return drop(DROP_SERVICE);
	return send_to(uplink->ifindex);
}

/* The guest's program has found the service and checked the sender. */
SEC("tc")
int to_service(struct __sk_buff *skb)
{
	struct source_port_key place = {};
	struct session_key key = {};
	struct service *service;
	const struct port *port;
	struct session *session;
	struct request request;
	__u32 index;

	key.guest = port_of(skb->ifindex);
	if (read_request(skb, &request) != NEXT)
		return TC_ACT_SHOT;
	port = get_port(key.guest);
	if (!port || !find_service(request.ip.daddr, request.ports.destination, request.ip.protocol, &index))
		return drop(DROP_SERVICE);
	service = bpf_map_lookup_elem(&services, &index);
	if (!service || !service->used)
		return drop(DROP_SERVICE);
	key.address = request.ip.saddr;
	key.port = request.ports.source;
	key.service = index;
	session = find_session(service, &key, port->epoch, &place);
	if (!session)
		return TC_ACT_SHOT;	/* counted there */
	touch_session(session, request.flags);
	return send_request(skb, &request, service, &key, place.port + SERVICE_FIRST_PORT);
}

static __always_inline int send_answer(struct __sk_buff *skb, const struct ipv6hdr *from, const struct ports *was_ports,
				       const struct service *service, const struct session *session)
{
	struct addresses4 is = { .source = service->address, .destination = session->address };
	struct ports ports = { .source = service->port, .destination = session->port };
	__u32 guest = session->guest, length = bpf_ntohs(from->payload_len) + sizeof(struct iphdr);
	struct iphdr ip = { .version = 4, .ihl = 5 };
	__be16 type = bpf_htons(ETH_P_IP);
	__s64 difference;

	if (length > 0xffff)
		return drop(DROP_MALFORMED);
	ip.tot_len = bpf_htons(length);
	ip.ttl = from->hop_limit;
	ip.protocol = from->nexthdr;
	ip.saddr = is.source;
	ip.daddr = is.destination;
	ip.id = bpf_get_prandom_u32();
	ip.check = ~fold((__u32)bpf_csum_diff(0, 0, (__be32 *)&ip, sizeof(ip), 0));
	difference = bpf_csum_diff((__be32 *)&from->saddr, sizeof(struct addresses6), (__be32 *)&is, sizeof(is), 0);
	if (bpf_skb_change_proto(skb, bpf_htons(ETH_P_IP), 0) ||
	    bpf_skb_store_bytes(skb, 2 * ETH_ALEN, &type, sizeof(type), 0) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN, &ip, sizeof(ip), 0) ||
	    write_transport(skb, IPV4_TRANSPORT, ip.protocol, was_ports, &ports, difference))
		return drop(DROP_SERVICE);
	return deliver(skb, guest);
}

/* The uplink's program has found the service that sent the packet. */
SEC("tc")
int from_service(struct __sk_buff *skb)
{
	struct source_port_key place = {};
	const struct service *service;
	struct session *session;
	struct ports ports;
	struct ipv6hdr ip;
	__u32 index;
	__u8 flags = 0;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &ip, sizeof(ip)) ||
	    bpf_skb_load_bytes(skb, IPV6_TRANSPORT, &ports, sizeof(ports)) ||
	    (ip.nexthdr == IPPROTO_TCP && bpf_skb_load_bytes(skb, IPV6_TRANSPORT + 13, &flags, sizeof(flags))))
		return drop(DROP_TRUNCATED);
	if (bpf_ntohs(ip.payload_len) + IPV6_TRANSPORT > skb->len)
		return drop(DROP_TRUNCATED);
	if (!find_remote(&ip, ports.source, &index))
		return drop(DROP_SERVICE_SESSION);
	service = bpf_map_lookup_elem(&services, &index);
	if (!service || !service->used || bpf_ntohs(ports.destination) < SERVICE_FIRST_PORT)
		return drop(DROP_SERVICE_SESSION);
	place.service = index;
	place.port = bpf_ntohs(ports.destination) - SERVICE_FIRST_PORT;
	session = bpf_map_lookup_elem(&source_ports, &place);
	if (!session || !is_alive(session, now_ticks()))
		return drop(DROP_SERVICE_SESSION);
	touch_session(session, flags);
	return send_answer(skb, &ip, &ports, service, session);
}
