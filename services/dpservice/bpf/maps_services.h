/* SPDX-License-Identifier: Apache-2.0 */
/* Maps of what the gateway does for guests besides forwarding; a part of maps.h. */
#pragma once

/* Programs that others continue in, filled by the daemon; pinned, or they would go when the daemon does. */
TABLE(programs, BPF_MAP_TYPE_PROG_ARRAY, 8, __u32, __u32, 0);

TABLE(templates, BPF_MAP_TYPE_HASH, 8192, struct template_key, struct template, BPF_F_NO_PREALLOC);

/* By port number: when the guest may ask as much as ever again. */
TABLE(answer_budgets, BPF_MAP_TYPE_ARRAY, 1024, __u32, __u64, 0);

TABLE(answer_scratch, BPF_MAP_TYPE_PERCPU_ARRAY, 1, __u32, struct answer_scratch, 0);

/* By port number. */
TABLE(meters, BPF_MAP_TYPE_ARRAY, 1024, __u32, struct meter, 0);

/* By point: which directions are mirrored or recorded. The last entry has the bits of all uplinks. */
TABLE(mirrored, BPF_MAP_TYPE_ARRAY, POINTS + 1, __u32, __u32, 0);
TABLE(recorded, BPF_MAP_TYPE_ARRAY, POINTS + 1, __u32, __u32, 0);
TABLE(mirror, BPF_MAP_TYPE_ARRAY, 1, __u32, struct mirror, 0);
TABLE(recorder, BPF_MAP_TYPE_ARRAY, 1, __u32, struct recorder, 0);
TABLE(record_scratch, BPF_MAP_TYPE_PERCPU_ARRAY, 1, __u32, struct record, 0);

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 22);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} records __weak SEC(".maps");

/* By index of the service, which is a part of its underlay address. */
TABLE(services, BPF_MAP_TYPE_ARRAY, SERVICES, __u32, struct service, 0);
TABLE(service_of, BPF_MAP_TYPE_HASH, SERVICES, struct service_key, __u32, 0);
TABLE(service_from, BPF_MAP_TYPE_HASH, SERVICES, struct remote_key, __u32, 0);
TABLE(sessions, BPF_MAP_TYPE_HASH, 131072, struct session_key, __u32, BPF_F_NO_PREALLOC);
TABLE(source_ports, BPF_MAP_TYPE_HASH, 131072, struct source_port_key, struct session, BPF_F_NO_PREALLOC);

/* By port number: sessions that a guest holds. */
TABLE(session_counts, BPF_MAP_TYPE_ARRAY, 1024, __u32, __u32, 0);
