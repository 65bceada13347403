/* SPDX-License-Identifier: Apache-2.0 */
/* What is known of a guest: its port, and its MAC, learned from its own words. */
#pragma once

#include "parse.h"

static __always_inline int same_mac(const __u8 *a, const __u8 *b)
{
	__u8 difference = 0;
	int i;

	/* By bytes: the verifier refuses wider reads of a header on the stack. */
#pragma unroll
	for (i = 0; i < ETH_ALEN; i++)
		difference |= a[i] ^ b[i];
	return !difference;
}

/* A group is no sender (IEEE 802.3, 3.2.3), except where guests are not to be doubted. */
static __always_inline int is_group(const __u8 *mac)
{
	const struct settings *own = get_settings();

	return mac[0] & 1 && own && own->check_sources;
}

static __always_inline int source_mac(struct __sk_buff *skb, __u8 *mac)
{
	return bpf_skb_load_bytes(skb, ETH_ALEN, mac, ETH_ALEN);
}

/* The number of the port of a device, or NO_PORT. */
static __always_inline __u32 port_of(__u32 device)
{
	const __u32 *found;

	if (device < DEVICE_NUMBERS) {
		found = bpf_map_lookup_elem(&device_ports, &device);
		return found ? *found - 1 : NO_PORT;
	}
	found = bpf_map_lookup_elem(&port_of_device, &device);
	return found ? *found : NO_PORT;
}

/* Whose it is may be the guest that was there before: only `known` tells that it may be sent from. */
static __always_inline int has_mac(const struct guest_mac *guest)
{
	return *(__u32 *)guest->address | *(__u16 *)(guest->address + 4);
}

/* A guest that boots another system may come back with another MAC, so the last word counts. */
static __always_inline void learn_mac(__u32 number, const __u8 *mac)
{
	struct guest_mac *old = bpf_map_lookup_elem(&guest_macs, &number);
	struct guest_mac fresh = { .known = 1 };

	if (old && old->known && same_mac(old->address, mac))
		return;
	__builtin_memcpy(fresh.address, mac, ETH_ALEN);
	table_put(&guest_macs, &number, &fresh, BPF_ANY);
}

/* Data frames come from the MAC that the guest showed in ARP, ND or DHCP; before that, the first one counts. */
static __always_inline int check_mac(struct __sk_buff *skb, __u32 number)
{
	struct guest_mac *guest = bpf_map_lookup_elem(&guest_macs, &number);
	__u8 mac[8];

	if (source_mac(skb, mac))
		return drop(DROP_TRUNCATED);
	if (guest && guest->known)
		return same_mac(guest->address, mac) ? NEXT : drop(DROP_SPOOFED_MAC);
	if (is_group(mac))
		return drop(DROP_SPOOFED_MAC);
	learn_mac(number, mac);
	return NEXT;
}
