// SPDX-License-Identifier: Apache-2.0
/*
 * Keeps the place at devices of a data plane that stands by: to replace a program takes microseconds, to put the first
 * one at a device waits for all processors.
 */
#include "maps.h"

/* As if it were not there: whatever else is at the device goes on. */
SEC("tc")
int standing_by(struct __sk_buff *skb)
{
	return TC_ACT_UNSPEC;
}
