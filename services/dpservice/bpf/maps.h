/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All maps, pinned by name below the directory that the daemon gives to libbpf. Sizes are defaults: the daemon
 * sets those that are configuration before it loads the object. Weak, so that the linker merges the copies.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "layout.h"
#include "reasons.h"

#define UPLINKS 2
#define DEVICE_NUMBERS 16384	/* devices with a higher ifindex are found by hash */

#define TABLE(name, kind, entries, key_type, value_type, flags)	\
	struct {							\
		__uint(type, kind);					\
		__uint(max_entries, entries);				\
		__type(key, key_type);					\
		__type(value, value_type);				\
		__uint(map_flags, flags);				\
		__uint(pinning, LIBBPF_PIN_BY_NAME);			\
	} name __weak SEC(".maps")

TABLE(settings, BPF_MAP_TYPE_ARRAY, 1, __u32, struct settings, 0);

/* By port number. Arrays: the lookup is a few instructions without a call. */
TABLE(ports, BPF_MAP_TYPE_ARRAY, 1024, __u32, struct port, 0);
TABLE(guest_macs, BPF_MAP_TYPE_ARRAY, 1024, __u32, struct guest_mac, 0);
TABLE(usage, BPF_MAP_TYPE_ARRAY, 1025, __u32, struct usage, 0);

/* By ifindex: port number plus one, 0 for none. */
TABLE(device_ports, BPF_MAP_TYPE_ARRAY, DEVICE_NUMBERS, __u32, __u32, 0);
TABLE(port_of_device, BPF_MAP_TYPE_HASH, 1024, __u32, __u32, 0);

TABLE(routes4, BPF_MAP_TYPE_LPM_TRIE, 65536, struct route_key4, struct hop, BPF_F_NO_PREALLOC);
TABLE(routes6, BPF_MAP_TYPE_LPM_TRIE, 65536, struct route_key6, struct hop, BPF_F_NO_PREALLOC);
TABLE(revisions, BPF_MAP_TYPE_ARRAY, ROUTE_BUCKETS + 1, __u32, __u32, 0);

TABLE(functions, BPF_MAP_TYPE_HASH, 8192, union address6, struct function, BPF_F_NO_PREALLOC);
TABLE(trusted_sources, BPF_MAP_TYPE_LPM_TRIE, 64, struct trusted_key, __u32, BPF_F_NO_PREALLOC);
TABLE(allowed_sources, BPF_MAP_TYPE_LPM_TRIE, 8192, struct source_key, __u32, BPF_F_NO_PREALLOC);
TABLE(uplinks, BPF_MAP_TYPE_ARRAY, UPLINKS, __u32, struct uplink, 0);

TABLE(detours, BPF_MAP_TYPE_ARRAY, 1, __u32, struct detour, 0);
TABLE(detour_uses, BPF_MAP_TYPE_PERCPU_ARRAY, 1, __u32, struct detour_use, 0);

TABLE(publics, BPF_MAP_TYPE_HASH, 4096, struct public_key, struct public_address, BPF_F_NO_PREALLOC);
TABLE(neighbors, BPF_MAP_TYPE_LPM_TRIE, 65536, struct neighbor_key, struct neighbor, BPF_F_NO_PREALLOC);
TABLE(balancers, BPF_MAP_TYPE_HASH, 256, __u32, struct balancer, BPF_F_NO_PREALLOC);
TABLE(rule_lists, BPF_MAP_TYPE_ARRAY, 2048, __u32, struct rule_list, 0);
TABLE(rules, BPF_MAP_TYPE_HASH, 65536, struct rule_key, struct rule, BPF_F_NO_PREALLOC);

/* Not allocated beforehand: the kernel keeps such entries in large pages, which matters more than anything else. */
TABLE(flows, BPF_MAP_TYPE_HASH, 131072, struct flow_key, struct flow, BPF_F_NO_PREALLOC);

/* Mappable, for such arrays begin at a page, so that a shortcut is a cache line. */
TABLE(shortcuts, BPF_MAP_TYPE_ARRAY, 1 << SHORTCUT_BITS, __u32, struct shortcut_pair, BPF_F_MMAPABLE);
TABLE(nat_mappings, BPF_MAP_TYPE_HASH, 65536, struct nat_key, struct nat_mapping, BPF_F_NO_PREALLOC);
TABLE(nat_claims, BPF_MAP_TYPE_HASH, 65536, struct claim_key, __u32, BPF_F_NO_PREALLOC);
/* By port number: when the guest may have long searches for NAT ports again. */
TABLE(nat_searches, BPF_MAP_TYPE_ARRAY, 1024, __u32, __u64, 0);
TABLE(fragments, BPF_MAP_TYPE_HASH, FRAGMENT_OWNERS * FRAGMENT_PLACES, struct fragment_place, struct first_fragment,
      BPF_F_NO_PREALLOC);

#include "maps_services.h"

/* By enum drop_reason (the kernel takes no enum as index of an array), with room for reasons of later versions. */
TABLE(drops, BPF_MAP_TYPE_PERCPU_ARRAY, 128, __u32, struct drop_count, 0);

/* By enum stage, with room likewise. */
TABLE(stages, BPF_MAP_TYPE_PERCPU_ARRAY, 32, __u32, __u64, 0);

static __always_inline const struct settings *get_settings(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&settings, &zero);
}

static __always_inline const struct port *get_port(__u32 number)
{
	return bpf_map_lookup_elem(&ports, &number);
}
