/* SPDX-License-Identifier: Apache-2.0 */
/* What all answers of the gateway share: the guest's budget, the frames made beforehand, their checksums. */
#pragma once

#include "bucket.h"
#include "guest.h"

/* Each answer costs the guest that asked, so that none can keep the host busy; a second's worth may come at once. */
static __always_inline int check_budget(__u32 number)
{
	const struct settings *own = get_settings();
	__u64 *full_at = bpf_map_lookup_elem(&answer_budgets, &number);

	if (!own || !own->answers_per_second || !full_at)
		return NEXT;
	return take(full_at, NANOSECONDS / own->answers_per_second, NANOSECONDS) ? NEXT : drop(DROP_ANSWER_LIMIT);
}

static __always_inline const struct template *find_template(__u32 number, enum template_kind kind)
{
	struct template_key key = { .port = number, .kind = kind };

	return bpf_map_lookup_elem(&templates, &key);
}

/* Is a length within 1 and `max`? Tested as the verifier understands it, who must know both bounds. */
static __always_inline int bound(__u32 *length, __u32 max)
{
	__u64 rest = (__u64)*length - 1;

	barrier_var(rest);
	if (rest >= max)
		return 0;
	*length = rest + 1;
	return 1;
}

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* Who boots from the network says so. Firmware: RFC 4578, 2.1; iPXE: its user class. */
#define FIRMWARE_CLASS	    "PXEClient:Arch:00007"
#define FIRMWARE_CLASS_SIZE 20
#define FIRMWARE_POSITIONS  64	/* where in a vendor class it may begin */
#define IPXE_CLASS_SIZE	    4

/* A search for the firmware's words within a vendor class. */
struct class_search {
	struct __sk_buff *skb;
	__u32 offset;
	__u32 end;
	__u32 found;
};

static long match_class(__u32 index, struct class_search *search)
{
	const char *wanted = FIRMWARE_CLASS;
	__u8 text[FIRMWARE_CLASS_SIZE], difference = 0;
	__u32 i;

	if (search->offset + index + sizeof(text) > search->end ||
	    bpf_skb_load_bytes(search->skb, search->offset + index, text, sizeof(text)))
		return 1;
#pragma unroll
	for (i = 0; i < sizeof(text); i++) {
		difference |= text[i] ^ wanted[i];
		barrier_var(difference);	/* or newer compilers make a truth value of each byte: too many ways */
	}
	search->found = !difference;
	return !difference;
}

static __always_inline int is_firmware(struct __sk_buff *skb, __u32 offset, __u32 length)
{
	struct class_search search = { .skb = skb, .offset = offset, .end = offset + length };

	if (length < FIRMWARE_CLASS_SIZE)
		return 0;
	bpf_loop(FIRMWARE_POSITIONS, match_class, &search, 0);
	return search.found;
}

static __always_inline int is_ipxe(struct __sk_buff *skb, __u32 offset, __u32 length)
{
	__u8 text[IPXE_CLASS_SIZE];

	return length == sizeof(text) && !bpf_skb_load_bytes(skb, offset, text, sizeof(text)) && text[0] == 'i' &&
	       text[1] == 'P' && text[2] == 'X' && text[3] == 'E';
}
