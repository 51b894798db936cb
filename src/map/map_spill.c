/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The file for output that is too much for memory: one for all items, without a name, so that nothing is left of it
 * whatever happens. It only grows at its end; what was delivered is punched out, and when all was, it begins
 * anew. In TMPDIR. Runs in the runner; allocates nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/diag.h"
#include "map/map_private.h"

static const char *directory(void)
{
	const char *dir = getenv("TMPDIR");

	return dir && dir[0] == '/' ? dir : "/tmp";
}

static int make(void)
{
	const char *dir = directory();
	char name[4096];
	int fd;

	fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd >= 0 || (size_t)snprintf(name, sizeof name, "%s/map.XXXXXX", dir) >= sizeof name)
		return fd;
	fd = mkostemp(name, O_CLOEXEC); /* a file system without O_TMPFILE */
	if (fd >= 0)
		unlink(name);
	return fd;
}

int spill_put(struct spill *s, const char *data, size_t len, struct extent *e_r)
{
	size_t done = 0;
	ssize_t n = 0;

	if (s->fd < 0)
		s->fd = make();
	while (s->fd >= 0 && done < len) {
		n = pwrite(s->fd, data + done, len - done, s->end + (int64_t)done);
		if (n <= 0)
			break;
		done += (size_t)n;
	}
	if (done < len) {
		if (!s->told)
			diag_warn_errno("map: unable to write output aside in TMPDIR, %s: it must wait for its turn",
			    directory());
		s->told = s->full = true;
		return -1;
	}
	*e_r = (struct extent){ s->end, len };
	s->end += (int64_t)len;
	s->used += (int64_t)len;
	return 0;
}

int spill_get(struct spill *s, const struct extent *e, size_t skip, char *buf, size_t len)
{
	size_t done = 0;
	ssize_t n;

	while (done < len) {
		n = pread(s->fd, buf + done, len - done, e->at + (int64_t)(skip + done));
		if (n <= 0)
			return -1;
		done += (size_t)n;
	}
	return 0;
}

void spill_free(struct spill *s, const struct extent *e)
{
	s->used -= (int64_t)e->len;
	s->full = false;
	if (s->used == 0) {
		s->end = 0;
		if (ftruncate(s->fd, 0) < 0)
			s->end = 0; /* what is there is written over */
	} else {
		fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, e->at, (off_t)e->len);
	}
}
