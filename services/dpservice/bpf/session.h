/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections of guests to virtual services: who has which source port. Ports are given out in ascending order, a port
 * is free again when its session has expired.
 */
#pragma once

#include "flow.h"

#define SESSION_TRIES	 1024	/* ports looked at for one packet; the next packet goes on from there */
#define TCP_PUSHED	 0x28	/* PSH and URG */
#define SESSION_QUOTA	 (SERVICE_PORTS / 4)	/* of a guest, for all services */

static __always_inline int is_session_over(const struct session *session, __u32 now)
{
	return (__s32)(session->expires - now) < 0;
}

/* Of a guest whose port had another interface since, a session is nobody's. */
static __always_inline int is_alive(const struct session *session, __u32 now)
{
	const struct port *port = get_port(session->guest);

	return !is_session_over(session, now) && port && port->used && port->epoch == session->epoch;
}

static __always_inline void end_session(const struct source_port_key *place, const struct session *session)
{
	struct session_key key = { .guest = session->guest, .address = session->address, .port = session->port };
	__u32 *held = bpf_map_lookup_elem(&session_counts, &key.guest);

	key.service = place->service;
	if (table_take(&source_ports, place))
		return;	/* somebody else ended it */
	table_take(&sessions, &key);
	if (held)
		count_down(held);
}

/* The next state; as the original's, but that bits of ECN do not count. */
static __always_inline __u8 next_state(__u8 state, __u8 flags)
{
	__u8 which = flags & TCP_FLAGS_READ & ~TCP_PUSHED;

	if (which & (TCP_FIN | TCP_RST))
		return SESSION_TRANSIENT;
	if (state == SESSION_TRANSIENT && which == TCP_SYN)
		return SESSION_SYN;
	if (state == SESSION_SYN && which == (TCP_SYN | TCP_ACK))
		return SESSION_SYNACK;
	if (state == SESSION_SYNACK && which == TCP_ACK)
		return SESSION_ESTABLISHED;
	return state;
}

static __always_inline __u32 session_timeout(__u8 state)
{
	const struct settings *own = get_settings();

	if (!own)
		return 0;
	return state == SESSION_ESTABLISHED ? own->established_timeout : own->flow_timeout;
}

/* `flags`: TCP's, 0 for UDP. */
static __always_inline void touch_session(struct session *session, __u8 flags)
{
	__u8 state = next_state(session->state, flags);
	__u32 expires = now_ticks() + session_timeout(state);

	if (session->state != state)
		set(session->state, state);
	if (session->expires != expires)
		set(session->expires, expires);
}

/* A search for a source port that nobody has, from behind the last one that was given out. */
struct port_search {
	struct source_port_key place;
	__u32 last;
	__u32 now;
	__u32 found;
};

static long try_source_port(__u32 index, struct port_search *search)
{
	const struct session *holder;

	search->place.port = (search->last + 1 + index) % SERVICE_PORTS;
	holder = bpf_map_lookup_elem(&source_ports, &search->place);
	if (holder && is_alive(holder, search->now))
		return 0;
	if (holder)
		end_session(&search->place, holder);
	search->found = 1;
	return 1;
}

/* Gives the guest a source port of the service; returns the session, or null when there is none left for it. */
static __always_inline struct session *begin_session(struct service *service, const struct session_key *key, __u32 epoch,
						     struct source_port_key *place)
{
	struct port_search search = { .place = *place, .last = service->last, .now = now_ticks() };
	struct session fresh = { .guest = key->guest, .epoch = epoch, .address = key->address, .port = key->port };
	__u32 guest = key->guest, port;
	__u32 *held = bpf_map_lookup_elem(&session_counts, &guest);

	if (held && (__s32)*held >= SESSION_QUOTA) {
		count_drop(DROP_SERVICE_QUOTA);
		return 0;
	}
	bpf_loop(SESSION_TRIES, try_source_port, &search, 0);
	set(service->last, search.place.port);
	if (!search.found) {
		count_drop(DROP_SERVICE_PORTS);
		return 0;
	}
	fresh.expires = search.now + session_timeout(SESSION_TRANSIENT);
	*place = search.place;
	port = place->port;
	if (table_put(&source_ports, place, &fresh, BPF_NOEXIST)) {	/* another processor was faster, or all is full */
		count_drop(DROP_SERVICE_PORTS);
		return 0;
	}
	if (table_put(&sessions, key, &port, BPF_NOEXIST)) {
		table_take(&source_ports, place);
		count_drop(DROP_SERVICE_PORTS);
		return 0;
	}
	if (held)
		count_up(held);
	return bpf_map_lookup_elem(&source_ports, place);
}

/* The guest's session with a service, a new one if need be; `place` says which source port it has. */
static __always_inline struct session *find_session(struct service *service, const struct session_key *key, __u32 epoch,
						    struct source_port_key *place)
{
	const __u32 *port = bpf_map_lookup_elem(&sessions, key);
	struct session *session = 0;

	place->service = key->service;
	if (port) {
		place->port = *port;
		session = bpf_map_lookup_elem(&source_ports, place);
		if (session && session->epoch == epoch && session->guest == key->guest &&
		    session->address == key->address && session->port == key->port)
			return session;
		table_take(&sessions, key);
		if (session && session->guest == key->guest)
			end_session(place, session);
	}
	return begin_session(service, key, epoch, place);
}
