/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The ledger: what the runner is delivering, so that the guard can complete it or take it back when the runner is
 * killed. An item is written in two steps, output and line of the log, and the guard must never leave
 * the one without the other.
 *
 *     field        written by         read by                    order
 *     phase        runner             guard, after the death     release; the death orders the rest
 *     done, want   runner             guard, after the death     want before a write, done after it
 *
 * One mapping, made before the fork.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/diag.h"
#include "map/map_private.h"

struct ledger *ledger_make(void)
{
	struct ledger *l = mmap(NULL, sizeof *l, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return l == MAP_FAILED ? NULL : l;
}

/* Where the next byte goes in a regular file; -1 for anything else. */
static int64_t place(int fd)
{
	struct stat st;
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return -1;
	return (flags & O_APPEND) ? st.st_size : lseek(fd, 0, SEEK_CUR);
}

void ledger_output(struct ledger *l, int log)
{
	int i;

	for (i = 0; i < 2; i++) {
		l->base[i] = place(STDOUT_FILENO + i);
		atomic_store(&l->done[i], 0);
		atomic_store(&l->want[i], 0);
	}
	l->log_base = place(log);
	atomic_store(&l->phase, LEDGER_OUTPUT);
}

void ledger_line(struct ledger *l)
{
	atomic_store(&l->phase, LEDGER_LINE);
}

void ledger_idle(struct ledger *l)
{
	atomic_store(&l->phase, LEDGER_IDLE);
}

/* Standard output and standard error are one file, as after 2>&1. */
static bool is_one_file(const struct ledger *l)
{
	struct stat a, b;

	return l->base[0] >= 0 && l->base[0] == l->base[1] && fstat(STDOUT_FILENO, &a) == 0 &&
	    fstat(STDERR_FILENO, &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* Only what the runner can have written itself: if the file is longer, somebody else writes to it too. */
static void take_back(const struct ledger *l, int i)
{
	int64_t base = l->base[i], done = atomic_load(&l->done[i]), want = atomic_load(&l->want[i]), now;
	struct stat st;

	if (base < 0 || fstat(STDOUT_FILENO + i, &st) < 0)
		return;
	if (is_one_file(l)) {
		done += atomic_load(&l->done[1 - i]);
		want += atomic_load(&l->want[1 - i]);
	}
	now = place(STDOUT_FILENO + i);
	if (now != st.st_size || now < base + done || now > base + done + want || now == base)
		return;
	if (ftruncate(STDOUT_FILENO + i, base) < 0)
		diag_error_errno("map: unable to take back the output of an item that is not in the log");
	else
		lseek(STDOUT_FILENO + i, base, SEEK_SET);
}

static void complete_line(const struct ledger *l, int log)
{
	int64_t written = place(log) - l->log_base;

	if (l->log_base < 0 || written < 0 || written >= (int64_t)l->len)
		return;
	if (write(log, l->line + written, l->len - (size_t)written) < 0)
		diag_error_errno("map: unable to write the log");
}

void ledger_undo(struct ledger *l, int log)
{
	/* from here on the guard undoes it, too; what is left of the line then is torn, and cut off when it is read */
	atomic_store(&l->phase, LEDGER_OUTPUT);
	if (l->log_base >= 0 && ftruncate(log, l->log_base) < 0)
		diag_error_errno("map: unable to take back a line of the log");
	take_back(l, 0);
	take_back(l, 1);
	ledger_idle(l);
}

void ledger_settle(struct ledger *l, int log)
{
	switch ((enum map_ledger_phase)atomic_load(&l->phase)) {
	case LEDGER_IDLE:
		break;
	case LEDGER_OUTPUT:
		take_back(l, 0);
		take_back(l, 1);
		break;
	case LEDGER_LINE:
		complete_line(l, log);
		break;
	}
	ledger_idle(l);
}
