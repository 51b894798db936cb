/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The descriptors of a new process: 0, 1, 2, then the listening sockets from 3 on, then perhaps
 * the one of ready = "fd:N"; nothing else. Sources that lie where a target will be are moved out
 * of the way first, so that no dup2 can overwrite what is still needed. Runs in the child;
 * async-signal-safe calls only.
 */
#include "node/exec_child.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fds.h"

#define FIRST_SOCKET 3
#define FD_NUMBER_MAX (1 << 20)

/* One move: a descriptor and the number that the program expects it at. */
struct move {
	int from, to;
};

struct moves {
	struct move m[NODE_SOCKETS_MAX + 4];
	int n;
};

static void add_move(struct moves *mv, int from, int to)
{
	mv->m[mv->n++] = (struct move){ .from = from, .to = to };
}

/* --- what goes where --- */

static int plan_stdio(const struct exec_plan *p, struct moves *mv)
{
	const struct spec_worker *w = &p->child->worker;
	int null = -1;

	if (!w->foreground || w->log == SPEC_LOG_NULL) {
		null = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (null < 0)
			return errno;
	}
	if (!w->foreground)
		add_move(mv, null, STDIN_FILENO);
	if (p->log >= 0 || w->log == SPEC_LOG_NULL) {
		add_move(mv, p->log >= 0 ? p->log : null, STDOUT_FILENO);
		add_move(mv, p->log >= 0 ? p->log : null, STDERR_FILENO);
	}
	return 0;
}

static int plan_sockets(const struct exec_plan *p, struct moves *mv)
{
	const struct spec_list *l = &p->child->worker.sockets;
	uint32_t i;

	if (l->count > NODE_SOCKETS_MAX)
		return EMFILE;
	for (i = 0; i < l->count; i++) {
		uint32_t k = spec_list_num(p->img, l, i);

		if (k >= NODE_SOCKETS_MAX || p->node->sockets[k] < 0)
			return EBADF;
		add_move(mv, p->node->sockets[k], FIRST_SOCKET + (int)i);
	}
	return 0;
}

static int plan_ready(const struct exec_plan *p, struct moves *mv)
{
	const struct spec_worker *w = &p->child->worker;

	if (p->ready < 0)
		return 0;
	if (w->ready_arg < FIRST_SOCKET + w->sockets.count || w->ready_arg >= FD_NUMBER_MAX)
		return EINVAL; /* taken by a socket or by standard input, output and error */
	add_move(mv, p->ready, (int)w->ready_arg);
	return 0;
}

/* --- moving --- */

static bool is_target(const struct moves *mv, int fd)
{
	int i;

	for (i = 0; i < mv->n; i++)
		if (mv->m[i].to == fd)
			return true;
	return false;
}

/* Gives a descriptor a number from low on that no move is aimed at. */
static int duplicate_above(const struct moves *mv, int fd, int low)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, low);

	if (copy >= 0 && is_target(mv, copy)) /* fd:N, right above the sockets */
		copy = fcntl(fd, F_DUPFD_CLOEXEC, copy + 1);
	return copy;
}

/* Moves *fd, and every move that starts from it, if it stands on a target. */
static int move_away(struct moves *mv, int *fd, int low)
{
	int old = *fd, copy, i;

	if (!is_target(mv, old))
		return 0;
	copy = duplicate_above(mv, old, low);
	if (copy < 0)
		return errno;
	*fd = copy;
	for (i = 0; i < mv->n; i++)
		if (mv->m[i].from == old)
			mv->m[i].from = copy;
	return 0;
}

static int clear_targets(struct moves *mv, int *status, int low)
{
	int i, err = move_away(mv, status, low);

	for (i = 0; err == 0 && i < mv->n; i++) {
		int from = mv->m[i].from;

		err = move_away(mv, &from, low);
	}
	return err;
}

static int carry_out(const struct moves *mv)
{
	int i;

	for (i = 0; i < mv->n; i++)
		if (dup2(mv->m[i].from, mv->m[i].to) < 0)
			return errno;
	return 0;
}

/* --- closing --- */

static void close_between(unsigned first, unsigned last)
{
	struct rlimit rl;
	unsigned fd, max = FD_NUMBER_MAX;

	if (first > last || syscall(SYS_close_range, first, last, 0) == 0)
		return;
	if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_max < max)
		max = (unsigned)rl.rlim_max;
	for (fd = first; fd <= last && fd < max; fd++)
		close((int)fd);
}

static void close_others(int first, int a, int b)
{
	int lo = a < b ? a : b, hi = a < b ? b : a;

	if (lo < first)
		lo = first - 1;
	close_between((unsigned)first, (unsigned)(lo - 1));
	close_between((unsigned)(lo + 1 > first ? lo + 1 : first), (unsigned)(hi - 1));
	close_between((unsigned)(hi + 1), ~0u);
}

int exec_fds(const struct exec_plan *p, int *status, enum exec_step *step_r)
{
	int after_sockets = FIRST_SOCKET + (int)p->child->worker.sockets.count, err;
	struct moves mv = { .n = 0 };

	*step_r = EXEC_STEP_STDIO;
	err = plan_stdio(p, &mv);
	if (err != 0)
		return err;
	*step_r = EXEC_STEP_SOCKETS;
	err = plan_sockets(p, &mv);
	if (err == 0)
		err = plan_ready(p, &mv);
	if (err == 0)
		err = clear_targets(&mv, status, after_sockets);
	if (err == 0)
		err = carry_out(&mv);
	if (err == 0)
		close_others(after_sockets, p->ready >= 0 ? (int)p->child->worker.ready_arg : -1, *status);
	return err;
}
