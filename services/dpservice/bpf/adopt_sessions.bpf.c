// SPDX-License-Identifier: Apache-2.0
/* As adopt.bpf.c, of sessions with virtual services. */
#include "maps.h"
#include "counterpart.h"
#include "session.h"
#include "takeover.h"

OTHER_TABLE(other_source_ports, struct source_port_key, struct session);

/* By index: is the service the same one there? */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SERVICES);
	__type(key, __u32);
	__type(value, __u32);
} same_services SEC(".maps");

/* A session that is here has gone on there, until ours was in its place. */
static __always_inline void follow_session(struct session *here, const struct session *there)
{
	if (here->state < there->state)
		here->state = there->state;
	if ((__s32)(there->expires - here->expires) > 0)
		here->expires = there->expires;
}

static __always_inline int is_same_session(const struct session *one, const struct session *other)
{
	return one->guest == other->guest && one->epoch == other->epoch && one->address == other->address &&
	       one->port == other->port;
}

static __always_inline int add_session(const struct source_port_key *place, const struct session *session)
{
	struct session_key key = { .guest = session->guest, .address = session->address, .port = session->port };
	__u32 port = place->port, guest = session->guest;
	__u32 *held = bpf_map_lookup_elem(&session_counts, &guest);

	key.service = place->service;
	if (bpf_map_update_elem(&source_ports, place, session, BPF_NOEXIST))
		return 0;
	if (bpf_map_update_elem(&sessions, &key, &port, BPF_NOEXIST)) {	/* it has got another port here */
		bpf_map_delete_elem(&source_ports, place);
		return 0;
	}
	if (held)
		count_up(held);
	return 1;
}

static long adopt_session(void *map, struct source_port_key *key, struct session *there, struct adoption *adoption)
{
	struct source_port_key place = *key;
	struct session session = *there, *here;
	__u32 service = place.service, epoch = 0, guest = session.guest;
	const __u32 *is_same = bpf_map_lookup_elem(&same_services, &service);

	adoption->seen++;
	/* A guest's session that is over, or has become another one's while it was read. */
	if (is_session_over(&session, adoption->now) || bpf_map_lookup_elem(map, &place) != there ||
	    !is_same || !*is_same || !translate_port(&guest, &epoch) || session.epoch != epoch)
		return 0;
	session.guest = guest;
	session.epoch = epoch_of(guest);
	here = bpf_map_lookup_elem(&source_ports, &place);
	if (here && is_same_session(here, &session))
		follow_session(here, &session);
	else if (add_session(&place, &session))
		adoption->added++;
	else
		adoption->failed++;
	return 0;
}

SEC("syscall")
int adopt_sessions(struct adoption *adoption)
{
	void *other = other_table(&other_source_ports);

	if (!other)
		return 1;
	if (!adoption->missing_only) {
		empty_table(&source_ports);
		empty_table(&sessions);
	}
	adopt_table(other, adopt_session, adoption);
	return 0;
}
