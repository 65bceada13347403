// SPDX-License-Identifier: Apache-2.0
/*
 * Traffic for the packet bench, one subcommand each:
 *
 *   blast IFNAME SECONDS TO_MAC FROM_IP TO_IP FLOWS     small UDP frames out of a device, by an AF_PACKET socket,
 *                                                 for that many seconds of its own CPU time; FLOWS is COUNT or
 *                                                 COUNT@FIRST, the source ports that take turns
 *   tapblast FD SECONDS TO_MAC FROM_MAC FROM_IP TO_IP FLOWS     the same, written into a TAP as a guest would
 *   drain FD                                      reads a TAP without ever sleeping; at SIGTERM prints how many came
 *   pump NETNS TAP GUEST_NETNS GUEST_TAP          carries frames between two TAPs as QEMU does, until killed
 *   receive ADDRESS PORT                          one TCP connection; prints bytes and seconds
 *   send ADDRESS PORT SECONDS                     its other end
 *
 * TAPs are opened as QEMU opens them: one queue, virtio header. FD is one that the caller keeps open: each opening
 * takes the kernel up to a second until the device carries frames. Callers choose namespace and CPU.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BATCH 64
#define FRAME 60		/* the smallest Ethernet frame, without its checksum */
#define VNET_HEADER 10		/* struct virtio_net_hdr */
#define BLOCK (1 << 17)
#define PORT 9			/* RFC 863: discard */
#define FIRST_SOURCE 1024
#define MAX_FLOWS 16384

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static double read_clock(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static double now(void)
{
	return read_clock(CLOCK_MONOTONIC);
}

/* The kernel carries what a sender sends within the sender's own time: how long others had the CPU does not count. */
static double cpu_time(void)
{
	return read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

/* The scheduler shares a CPU by sessions first (autogroup), so that a nice value alone does not help. */
static void take_priority(void)
{
	int fd;

	setsid();
	setpriority(PRIO_PROCESS, 0, -19);
	fd = open("/proc/self/autogroup", O_WRONLY);
	if (fd >= 0) {
		if (write(fd, "-19", 3) < 0)
			perror("/proc/self/autogroup");
		close(fd);
	}
}

static void parse_mac(const char *text, unsigned char *mac)
{
	unsigned int b[6];

	if (sscanf(text, "%x:%x:%x:%x:%x:%x", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5]) != 6) {
		fprintf(stderr, "%s is no MAC address\n", text);
		exit(2);
	}
	for (int i = 0; i < 6; i++)
		mac[i] = b[i];
}

static unsigned short header_sum(const void *header)
{
	const unsigned short *words = header;
	unsigned int sum = 0;

	for (int i = 0; i < 10; i++)
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	return ~(sum + (sum >> 16));
}

static void build(unsigned char *frame, const char *to_mac, const unsigned char *from_mac, const char *from, const char *to)
{
	struct ether_header *ethernet = (void *)frame;
	struct iphdr *ip = (void *)(ethernet + 1);
	struct udphdr *udp = (void *)(ip + 1);

	memset(frame, 0, FRAME);
	parse_mac(to_mac, ethernet->ether_dhost);
	memcpy(ethernet->ether_shost, from_mac, 6);
	ethernet->ether_type = htons(ETHERTYPE_IP);
	ip->version = 4;
	ip->ihl = 5;
	ip->ttl = 64;
	ip->protocol = IPPROTO_UDP;
	ip->tot_len = htons(FRAME - sizeof(*ethernet));
	ip->saddr = inet_addr(from);
	ip->daddr = inet_addr(to);
	ip->check = header_sum(ip);
	udp->source = htons(FIRST_SOURCE);
	udp->dest = htons(PORT);
	udp->len = htons(FRAME - sizeof(*ethernet) - sizeof(*ip));
}

/* Copies of a frame `room` bytes apart, each a flow of its own; UDP over IPv4 may go without a checksum. */
static int multiply(unsigned char *frames, size_t room, size_t header, const char *flows)
{
	int count = atoi(flows), first = strchr(flows, '@') ? atoi(strchr(flows, '@') + 1) : FIRST_SOURCE;

	if (count < 1 || count > MAX_FLOWS || first < 1 || first + count > 65536) {
		fprintf(stderr, "flows: 1..%d of the source ports, not %s\n", MAX_FLOWS, flows);
		exit(2);
	}
	for (int i = 0; i < count; i++) {
		unsigned char *copy = frames + i * room;
		struct udphdr *udp = (void *)(copy + header + sizeof(struct ether_header) + sizeof(struct iphdr));

		memmove(copy, frames, room);
		udp->source = htons(first + i);
	}
	return count;
}

static int open_tap(const char *name)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);

	strncpy(request.ifr_name, name, IFNAMSIZ - 1);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &request))
		die(name);
	if (ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6))
		die("TUNSETOFFLOAD");
	return fd;
}

static int blast(char **args)
{
	struct sockaddr_ll where = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP),
				     .sll_ifindex = if_nametoindex(args[0]) };
	static unsigned char frames[MAX_FLOWS * FRAME];
	static struct iovec parts[MAX_FLOWS + BATCH];
	static struct mmsghdr batch[MAX_FLOWS + BATCH];
	struct ifreq request = {};
	int fd = socket(AF_PACKET, SOCK_RAW, 0), on = 1, flows, next = 0;
	unsigned long sent = 0;
	double end;

	strncpy(request.ifr_name, args[0], IFNAMSIZ - 1);
	if (fd < 0 || bind(fd, (void *)&where, sizeof(where)) || ioctl(fd, SIOCGIFHWADDR, &request))
		die(args[0]);
	setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof(on));
	build(frames, args[2], (void *)request.ifr_hwaddr.sa_data, args[3], args[4]);
	flows = multiply(frames, FRAME, 0, args[5]);
	for (int i = 0; i < flows + BATCH; i++) {
		parts[i] = (struct iovec){ frames + i % flows * FRAME, FRAME };
		batch[i] = (struct mmsghdr){ .msg_hdr = { .msg_iov = &parts[i], .msg_iovlen = 1 } };
	}
	for (end = cpu_time() + atof(args[1]); cpu_time() < end; next = (next + BATCH) % flows) {
		int count = sendmmsg(fd, batch + next, BATCH, 0);

		if (count < 0 && errno != ENOBUFS && errno != EAGAIN)
			die("sendmmsg");
		sent += count > 0 ? count : 0;
	}
	printf("%lu\n", sent);
	return 0;
}

static int tapblast(char **args)
{
	static unsigned char buffers[MAX_FLOWS * (VNET_HEADER + FRAME)];
	const size_t room = VNET_HEADER + FRAME;
	unsigned char from_mac[6];
	int fd = atoi(args[0]), flows, next = 0;
	unsigned long sent = 0;
	double end;

	parse_mac(args[3], from_mac);
	build(buffers + VNET_HEADER, args[2], from_mac, args[4], args[5]);
	flows = multiply(buffers, room, VNET_HEADER, args[6]);
	for (end = cpu_time() + atof(args[1]); cpu_time() < end;)
		for (int i = 0; i < BATCH; i++) {
			sent += write(fd, buffers + next * room, room) > 0;
			next = next + 1 < flows ? next + 1 : 0;
		}
	printf("%lu\n", sent);
	return 0;
}

static volatile sig_atomic_t stopped;

static void stop(int number)
{
	stopped = number;
}

static int drain(char **args)
{
	static unsigned char buffer[BLOCK];
	int fd = atoi(args[0]);
	unsigned long got = 0;

	signal(SIGTERM, stop);
	puts("ready");
	fflush(stdout);
	while (!stopped)
		for (int i = 0; i < BATCH; i++)
			got += read(fd, buffer, sizeof(buffer)) == VNET_HEADER + FRAME;
	printf("%lu\n", got);
	return 0;
}

static void enter(const char *netns)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "/run/netns/%s", netns);
	fd = open(path, O_RDONLY);
	if (fd < 0 || setns(fd, CLONE_NEWNET))
		die(netns);
	close(fd);
}

static int pump(char **args)
{
	static unsigned char buffer[BLOCK];
	struct pollfd ends[2] = { { .events = POLLIN }, { .events = POLLIN } };

	for (int i = 0; i < 2; i++) {
		enter(args[2 * i]);
		ends[i].fd = open_tap(args[2 * i + 1]);
	}
	puts("ready");
	fflush(stdout);
	while (poll(ends, 2, -1) > 0)
		for (int i = 0; i < 2; i++)
			for (int n = 0; n < BATCH; n++) {
				ssize_t length = read(ends[i].fd, buffer, sizeof(buffer));

				if (length <= 0)
					break;
				/* A device that is not up yet loses the frame, as a NIC would. */
				if (write(ends[!i].fd, buffer, length) < 0 && errno != EIO && errno != EINVAL)
					die("write");
			}
	die("poll");
	return 1;
}

static struct sockaddr_in address_of(char **args)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(atoi(args[1])) };

	address.sin_addr.s_addr = inet_addr(args[0]);
	return address;
}

static int receive(char **args)
{
	static unsigned char buffer[1 << 20];
	struct sockaddr_in address = address_of(args);
	int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1, peer;
	double first = 0, last = 0;
	unsigned long total = 0;
	ssize_t length;

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(listener, (void *)&address, sizeof(address)) || listen(listener, 1))
		die("listen");
	puts("ready");
	fflush(stdout);
	peer = accept(listener, 0, 0);
	if (peer < 0)
		die("accept");
	while ((length = read(peer, buffer, sizeof(buffer))) > 0) {
		last = now();
		if (!first)
			first = last;
		total += length;
	}
	printf("%lu %f\n", total, last - first);
	return 0;
}

static int send_stream(char **args)
{
	static unsigned char buffer[1 << 20];
	struct sockaddr_in address = address_of(args);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	double end;

	if (connect(fd, (void *)&address, sizeof(address)))
		die("connect");
	for (end = now() + atof(args[2]); now() < end;)
		if (write(fd, buffer, sizeof(buffer)) < 0)
			die("write");
	close(fd);
	return 0;
}

int main(int count, char **args)
{
	static const struct {
		const char *name;
		int arguments;
		int (*run)(char **args);
	} commands[] = {
		{ "blast", 6, blast }, { "tapblast", 7, tapblast }, { "drain", 1, drain },
		{ "pump", 4, pump },   { "receive", 2, receive },   { "send", 3, send_stream },
	};

	take_priority();
	for (size_t i = 0; i < sizeof(commands) / sizeof(*commands); i++)
		if (count == commands[i].arguments + 2 && !strcmp(args[1], commands[i].name))
			return commands[i].run(args + 2);
	fprintf(stderr, "usage: see the head of traffic.c\n");
	return 2;
}
