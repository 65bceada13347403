/* SPDX-License-Identifier: Apache-2.0 */
/* Whole tables, as whoever takes over from another data plane goes through them: the other's, and its own. */
#pragma once

#include "maps.h"

/*
 * The other data plane's, while it is followed. Not pinned, so that it goes when this process does. By sizes: clang 14
 * forgets what is in a type that the table inside is the first to name.
 */
#define OTHER_TABLE(name, key_type, value_type)				\
	struct {							\
		__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);		\
		__uint(max_entries, 1);					\
		__type(key, __u32);					\
		__array(values, struct {				\
			__uint(type, BPF_MAP_TYPE_HASH);		\
			__uint(max_entries, 131072);			\
			__uint(key_size, sizeof(key_type));		\
			__uint(value_size, sizeof(value_type));		\
			__uint(map_flags, BPF_F_NO_PREALLOC);		\
		});							\
	} name SEC(".maps")

/* 0: nobody is followed. */
static __always_inline void *other_table(void *holder)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(holder, &zero);
}

/* Calls `adopt` with each entry of the other's table. */
static __always_inline void adopt_table(void *other, void *adopt, struct adoption *adoption)
{
	struct adoption copy = *adoption;

	bpf_for_each_map_elem(other, adopt, &copy, 0);
	*adoption = copy;
}

static long forget_entry(void *table, void *key, void *value, void *unused)
{
	bpf_map_delete_elem(table, key);
	return 0;
}

/* No packet may use the table meanwhile. */
static __always_inline void empty_table(void *table)
{
	bpf_for_each_map_elem(table, forget_entry, 0, 0);
}
