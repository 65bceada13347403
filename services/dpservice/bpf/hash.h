/* SPDX-License-Identifier: Apache-2.0 */
/* Bob Jenkins' lookup3 over whole words, with the initial value that DPDK's hash tables have. */
#pragma once

#include <linux/types.h>

#define JHASH_INITIAL 0xfee1900d
#define JHASH_GOLDEN  0xdeadbeef

#define ROTATE(word, bits) (((word) << (bits)) | ((word) >> (32 - (bits))))

#define JHASH_MIX(a, b, c)                                              \
	do {                                                            \
		a -= c; a ^= ROTATE(c, 4);  c += b;                     \
		b -= a; b ^= ROTATE(a, 6);  a += c;                     \
		c -= b; c ^= ROTATE(b, 8);  b += a;                     \
		a -= c; a ^= ROTATE(c, 16); c += b;                     \
		b -= a; b ^= ROTATE(a, 19); a += c;                     \
		c -= b; c ^= ROTATE(b, 4);  b += a;                     \
	} while (0)

#define JHASH_FINAL(a, b, c)                                            \
	do {                                                            \
		c ^= b; c -= ROTATE(b, 14);                             \
		a ^= c; a -= ROTATE(c, 11);                             \
		b ^= a; b -= ROTATE(a, 25);                             \
		c ^= b; c -= ROTATE(b, 16);                             \
		a ^= c; a -= ROTATE(c, 4);                              \
		b ^= a; b -= ROTATE(a, 14);                             \
		c ^= b; c -= ROTATE(b, 24);                             \
	} while (0)

/* The hash of the first 44 bytes of a flow key. */
static __always_inline __u32 hash_flow(const struct flow_key *key)
{
	const __u32 *word = (const __u32 *)key;
	__u32 a = JHASH_GOLDEN + 44 + JHASH_INITIAL, b = a, c = a;

	a += word[0]; b += word[1]; c += word[2];
	JHASH_MIX(a, b, c);
	a += word[3]; b += word[4]; c += word[5];
	JHASH_MIX(a, b, c);
	a += word[6]; b += word[7]; c += word[8];
	JHASH_MIX(a, b, c);
	a += word[9]; b += word[10];
	JHASH_FINAL(a, b, c);
	return c;
}

/* The hash of the 23 bytes of a NAT key. */
static __always_inline __u32 hash_nat(const struct nat_key *key)
{
	__u32 a = JHASH_GOLDEN + 23 + JHASH_INITIAL, b = a, c = a;

	a += key->vni; b += key->address[0]; c += key->address[1];
	JHASH_MIX(a, b, c);
	a += key->address[2]; b += key->address[3]; c += key->port;
	JHASH_FINAL(a, b, c);
	return c;
}
