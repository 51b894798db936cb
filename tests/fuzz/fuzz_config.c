/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Any bytes as a configuration, for libFuzzer: an image that passes spec_check(), or errors with
 * one line each, never a crash. What begins with the image's magic number is given to
 * spec_check() as an image. tests/unit/test_config.c includes this file and plays it on the
 * golden pairs and on seeded mutations of them.
 *
 *     clang -fsanitize=fuzzer,address,undefined ...; ./fuzz_config -dict=tests/fuzz/config.dict tests/config
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "node/config_private.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int fuzz_scratch(void)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		abort();
	return fd;
}

/* Every error begins with the file's name, and each is one line of text. */
static void fuzz_check_errors(int fd)
{
	off_t len = lseek(fd, 0, SEEK_END), i;
	char *text = malloc((size_t)len + 1);

	if (!text || len == 0 || pread(fd, text, (size_t)len, 0) != len || text[len - 1] != '\n')
		abort();
	for (i = 0; i < len; i++)
		if ((unsigned char)text[i] < 0x20 && text[i] != '\n')
			abort();
	free(text);
}

static void fuzz_image(const uint8_t *data, size_t size)
{
	uint64_t *p = malloc(size); /* aligned, of exactly this size */

	if (!p)
		abort();
	memcpy(p, data, size);
	if (spec_check(p, size) == 0)
		(void)conf_bound(&(struct spec_image){ .h = (const void *)p, .fd = -1 });
	free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint32_t magic = SPEC_MAGIC;
	struct spec_image img;
	int mem, err;

	if (size >= sizeof magic && memcmp(data, &magic, sizeof magic) == 0) {
		fuzz_image(data, size);
		return 0;
	}
	mem = fuzz_scratch();
	err = fuzz_scratch();
	if (conf_job_run_text("./fuzz.conf", (const char *)data, size, mem, err) != CONF_EXIT_OK) {
		fuzz_check_errors(err);
		close(mem);
	} else {
		if (spec_open(&img, mem) < 0)
			abort();
		spec_close(&img);
	}
	close(err);
	return 0;
}
