// SPDX-License-Identifier: Apache-2.0
/*
 * What a packet costs in both programs: pair_cost OBJECT PINS IFINDEX FRAME RUNS PROGRAM...
 *
 * Loads OBJECT (pair.bpf.o) over the pinned maps below PINS and gives FRAME, a file, to each PROGRAM in turn, RUNS times
 * in one BPF_PROG_TEST_RUN, as if it came in on a device. Prints for each the nanoseconds of a run and the last verdict.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <stdio.h>
#include <stdlib.h>

#define FRAME_MAX 2048

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* All maps that are pinned are the daemon's, with the sizes that they have there. */
static struct bpf_object *load(const char *path, const char *pins)
{
	LIBBPF_OPTS(bpf_object_open_opts, options, .pin_root_path = pins);
	struct bpf_object *object = bpf_object__open_file(path, &options);
	struct bpf_map *map;

	if (!object)
		die(path);
	bpf_object__for_each_map(map, object) {
		const char *pin = bpf_map__pin_path(map);
		int fd = pin ? bpf_obj_get(pin) : -1;

		if (pin && (fd < 0 || bpf_map__reuse_fd(map, fd)))
			die(pin);
	}
	if (bpf_object__load(object))
		die("load");
	return object;
}

int main(int argc, char **args)
{
	struct __sk_buff context = {};
	struct bpf_object *object;
	char frame[FRAME_MAX];
	size_t size;
	FILE *file;

	if (argc < 7) {
		fprintf(stderr, "usage: see the head of pair_cost.c\n");
		return 2;
	}
	context.ifindex = context.ingress_ifindex = atoi(args[3]);
	file = fopen(args[4], "rb");
	size = file ? fread(frame, 1, sizeof(frame), file) : 0;
	if (!size)
		die(args[4]);
	object = load(args[1], args[2]);
	for (int i = 6; i < argc; i++) {
		struct bpf_program *program = bpf_object__find_program_by_name(object, args[i]);
		LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame, .data_size_in = size, .ctx_in = &context,
			    .ctx_size_in = sizeof(context), .repeat = atoi(args[5]));

		if (!program || bpf_prog_test_run_opts(bpf_program__fd(program), &options))
			die(args[i]);
		printf("%s %u %u\n", args[i], options.duration, options.retval);
	}
	bpf_object__close(object);
	return 0;
}
