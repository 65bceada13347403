// SPDX-License-Identifier: Apache-2.0
/*
 * What one BPF program costs a packet: program_cost PROGRAM_ID IFINDEX FRAMES COUNT RUNS ORDER
 *
 * FRAMES is a file of COUNT frames of equal size. Each run gives the program one of them as if it came in on a device,
 * by BPF_PROG_TEST_RUN, in turn or at random (ORDER: hot gives the first one always, turn, random). Prints the
 * nanoseconds of a run without what an empty program costs, and the verdict that most runs had with its share.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VERDICTS 16
#define FRAME_MAX 2048

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int empty_program(void)
{
	const struct bpf_insn nothing[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	int fd = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "empty", "GPL", nothing, 2, NULL);

	if (fd < 0)
		die("empty program");
	return fd;
}

static unsigned int next_random(unsigned int *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

/* Mean nanoseconds of a run; counts the verdicts. */
static double measure(int program, int ifindex, const char *frames, size_t size, unsigned int count, unsigned int runs,
		      const char *order, unsigned int *verdicts)
{
	struct __sk_buff context = { .ifindex = ifindex, .ingress_ifindex = ifindex };
	unsigned int seed = 2463534242u;
	double total = 0;

	for (unsigned int i = 0; i < runs; i++) {
		unsigned int at = *order == 'h' ? 0 : *order == 't' ? i % count : next_random(&seed) % count;
		LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frames + at * size, .data_size_in = size,
			    .ctx_in = &context, .ctx_size_in = sizeof(context), .repeat = 1);

		if (bpf_prog_test_run_opts(program, &options))
			die("BPF_PROG_TEST_RUN");
		total += options.duration;
		verdicts[options.retval % VERDICTS]++;
	}
	return total / runs;
}

int main(int argc, char **args)
{
	unsigned int verdicts[VERDICTS] = {}, ignored[VERDICTS] = {}, count, runs, most = 0;
	double with, without;
	int program, ifindex;
	char *frames;
	size_t size;
	FILE *file;

	if (argc != 7) {
		fprintf(stderr, "usage: see the head of program_cost.c\n");
		return 2;
	}
	program = bpf_prog_get_fd_by_id(atoi(args[1]));
	if (program < 0)
		die("program");
	ifindex = atoi(args[2]);
	count = atoi(args[4]);
	runs = atoi(args[5]);
	file = fopen(args[3], "rb");
	if (!file || fseek(file, 0, SEEK_END))
		die(args[3]);
	size = ftell(file) / count;
	rewind(file);
	frames = malloc(size * count);
	if (!frames || size > FRAME_MAX || fread(frames, size, count, file) != count)
		die("frames");
	without = measure(empty_program(), ifindex, frames, size, count, runs, args[6], ignored);
	with = measure(program, ifindex, frames, size, count, runs, args[6], verdicts);
	for (unsigned int i = 1; i < VERDICTS; i++)
		most = verdicts[i] > verdicts[most] ? i : most;
	printf("%.1f %u %.4f\n", with - without, most, (double)verdicts[most] / runs);
	return 0;
}
