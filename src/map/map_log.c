/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * --joblog: a line for each item that was delivered, in GNU parallel's columns, and --resume: which items have one.
 * What is remembered of a log are spans of numbers, so a log of ten million lines costs nothing. Opened
 * and locked by the guard before the fork, so the lock holds until both processes have ended.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/diag.h"
#include "base/fds.h"
#include "map/map_private.h"

#define HEADER "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n"
#define HEADING_MIN (sizeof "Seq\tHost" - 1) /* by which a log is known */
#define LOCK_WAIT_MS 10000 /* a runner that was killed is still burying its items */

/* --- reading --- */

static void add_done(struct joblog *l, uint64_t seq)
{
	if (l->n > 0 && l->done[l->n - 1].hi + 1 == seq) {
		l->done[l->n - 1].hi = seq;
		return;
	}
	MAP_ROOM(l->done, l->cap, l->n + 1);
	l->done[l->n++] = (struct span){ seq, seq };
}

static int by_lo(const void *a, const void *b)
{
	const struct span *x = a, *y = b;

	return x->lo < y->lo ? -1 : x->lo > y->lo;
}

static void join_spans(struct joblog *l)
{
	size_t i, k = 0;

	if (l->n == 0)
		return;
	qsort(l->done, l->n, sizeof *l->done, by_lo);
	for (i = 1; i < l->n; i++) {
		if (l->done[i].lo <= l->done[k].hi + 1) {
			if (l->done[i].hi > l->done[k].hi)
				l->done[k].hi = l->done[i].hi;
		} else {
			l->done[++k] = l->done[i];
		}
	}
	l->n = k + 1;
}

/* Seq and the two columns that tell how it ended. False: not a line of a log. */
static bool parse(const char *line, uint64_t *seq_r, bool *good_r)
{
	const char *p = line;
	unsigned long long seq;
	int exit, sig, i;
	char *end;

	if (*p < '1' || *p > '9')
		return false;
	errno = 0;
	seq = strtoull(p, &end, 10);
	if (errno != 0 || *end != '\t' || seq == UINT64_MAX)
		return false;
	for (i = 0, p = end; i < 6 && p; i++)
		p = strchr(p + (i > 0), '\t');
	if (!p || sscanf(p, "\t%d\t%d\t", &exit, &sig) != 2)
		return false;
	*seq_r = seq;
	*good_r = exit == 0 && sig == 0;
	return true;
}

/* Reads what is there; -1 with errno, EILSEQ if it is no log. What follows the *whole_r bytes up to the last newline
 * was torn. */
static int read_log(struct joblog *l, const struct map_options *o, off_t *whole_r)
{
	FILE *f = fdopen(dup(l->fd), "r");
	char *line = NULL;
	size_t size = 0;
	uint64_t seq;
	ssize_t n;
	bool good, failed, foreign = false;

	if (!f)
		return -1;
	rewind(f);
	*whole_r = 0;
	while (!foreign && (n = getline(&line, &size, f)) > 0) {
		/* never write into, or cut, what is somebody's file; the heading itself may be torn */
		foreign = *whole_r == 0 && strncmp(line, HEADER, (size_t)n < HEADING_MIN ? (size_t)n : HEADING_MIN) != 0;
		if (line[n - 1] != '\n')
			break;
		*whole_r += n;
		if (parse(line, &seq, &good) && (good || !o->resume_failed))
			add_done(l, seq);
	}
	failed = ferror(f) != 0;
	free(line);
	fclose(f);
	join_spans(l);
	if (foreign)
		errno = EILSEQ;
	return failed || foreign ? -1 : 0;
}

bool joblog_has(struct joblog *l, uint64_t seq)
{
	while (l->next < l->n && l->done[l->next].hi < seq)
		l->next++;
	return l->next < l->n && l->done[l->next].lo <= seq;
}

/* --- opening --- */

static int lock(int fd, bool wait)
{
	int64_t until = clock_mono_ms() + (wait ? LOCK_WAIT_MS : 0);

	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return 0; /* a file system without locks */
		if (clock_mono_ms() >= until)
			return -1;
		poll(NULL, 0, 10);
	}
	return 0;
}

static int say_unusable(const struct map_options *o)
{
	if (errno == EILSEQ)
		diag_error("map: %s has something in it that is no log", o->joblog);
	else
		diag_error_errno("map: unable to read or write %s", o->joblog);
	return -1;
}

static int prepare(struct joblog *l, const struct map_options *o)
{
	struct stat st;
	off_t whole;

	if (fstat(l->fd, &st) < 0)
		return -1;
	if (!S_ISREG(st.st_mode))
		return o->resume ? -1 : 0;
	if (!o->resume && ftruncate(l->fd, 0) < 0)
		return -1;
	if (o->resume && (read_log(l, o, &whole) < 0 || ftruncate(l->fd, whole) < 0))
		return -1;
	if (fstat(l->fd, &st) < 0)
		return -1;
	return st.st_size > 0 ? 0 : fds_write_all(l->fd, HEADER, strlen(HEADER));
}

/* What would be left out, and nothing else: neither made nor changed. */
static int look_into(struct joblog *l, const struct map_options *o)
{
	off_t whole;

	if (!o->resume)
		return 0;
	l->fd = open(o->joblog, O_RDONLY | O_CLOEXEC);
	if (l->fd < 0 && errno == ENOENT)
		return 0;
	if (l->fd < 0 || read_log(l, o, &whole) < 0)
		return say_unusable(o);
	fds_close(&l->fd);
	return 0;
}

int joblog_open(struct joblog *l, const struct map_options *o)
{
	*l = (struct joblog){ .fd = -1 };
	if (!o->joblog)
		return 0;
	if (o->dry_run)
		return look_into(l, o);
	l->fd = open(o->joblog, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
	if (l->fd < 0) {
		diag_error_errno("map: unable to open %s", o->joblog);
		return -1;
	}
	/* what is to be resumed may end first; to erase what somebody has just finished is never meant */
	if (lock(l->fd, o->resume) < 0) {
		diag_error("map: %s is the log of another one that is running", o->joblog);
		return -1;
	}
	return prepare(l, o) < 0 ? say_unusable(o) : 0;
}

/* --- writing --- */

size_t joblog_line(struct run *r, const struct item *it, char *buf, size_t size)
{
	static struct strings words;
	size_t n;

	n = (size_t)snprintf(buf, size, "%" PRIu64 "\t:\t%" PRId64 ".%03d\t%10.3f\t0\t%" PRIu64 "\t%d\t%d\t", it->seq,
	    it->start_us / 1000000, (int)(it->start_us / 1000 % 1000), (double)it->ran_ns / 1e9, it->out[0].total,
	    it->timed_out ? -1 : it->exit, it->sig);
	words_expand(&r->words, it, it->number, &words);
	n += words_quote(&words, true, buf + n, size - n - 1);
	buf[n++] = '\n';
	return n;
}
