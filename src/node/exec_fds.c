/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The descriptors of a new process: 0, 1, 2, then the listening sockets from 3 on, then perhaps
 * the one of ready = "fd:N"; nothing else. What goes where is decided in the supervisor, before
 * there is a process. The process then moves out of the way what lies where a target will be, so
 * that no dup can overwrite what is still needed, and closes the rest.
 *
 * A supervisor of thousands has thousands of descriptors, and a process that copied and closed
 * them all would be slow to start. So the process shares the supervisor's table at first and
 * leaves it at once with a copy of its low end (close_range(2) with CLOSE_RANGE_UNSHARE), below
 * which everything that it needs has been put.
 */
#include "node/exec_child.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fds.h"
#include "base/raw.h"

#define FIRST_SOCKET 3
#define FD_NUMBER_MAX (1 << 20)

static void add_move(struct exec_fds *f, int from, int to)
{
	f->move[f->n++] = (struct exec_move){ .from = from, .to = to };
}

/* --- what goes where; in the supervisor --- */

static int null_fd = -1; /* opened once: every start needs it */

static int dev_null(void)
{
	if (null_fd < 0)
		null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	return null_fd;
}

void exec_fds_forked(void)
{
	null_fd = -1;
}

void exec_fds_fini(void)
{
	fds_close(&null_fd);
}

static int plan_stdio(const struct exec_plan *p, struct exec_fds *f)
{
	const struct spec_worker *w = &p->child->worker;
	int null = -1;

	if (p->in >= 0) {
		add_move(f, p->in, STDIN_FILENO);
		add_move(f, p->out, STDOUT_FILENO);
	}
	if ((!w->foreground && p->in < 0) || w->log == SPEC_LOG_NULL) {
		null = dev_null();
		if (null < 0)
			return errno;
	}
	if (!w->foreground && p->in < 0)
		add_move(f, null, STDIN_FILENO);
	if (p->log >= 0 || w->log == SPEC_LOG_NULL) {
		if (p->in < 0)
			add_move(f, p->log >= 0 ? p->log : null, STDOUT_FILENO);
		add_move(f, p->log >= 0 ? p->log : null, STDERR_FILENO);
	}
	return 0;
}

static int plan_sockets(const struct exec_plan *p, struct exec_fds *f)
{
	const struct spec_list *l = &p->child->worker.sockets;
	uint32_t i;

	if (l->count > NODE_SOCKETS_MAX)
		return EMFILE;
	for (i = 0; i < l->count; i++) {
		uint32_t k = spec_list_num(&p->img, l, i);

		if (k >= NODE_SOCKETS_MAX || p->node->sockets[k] < 0)
			return EBADF;
		add_move(f, p->node->sockets[k], FIRST_SOCKET + (int)i);
	}
	f->after_sockets = FIRST_SOCKET + (int)l->count;
	return 0;
}

static int plan_ready(const struct exec_plan *p, struct exec_fds *f)
{
	const struct spec_worker *w = &p->child->worker;

	if (p->ready < 0)
		return 0;
	if (w->ready == SPEC_READY_INIT) {
		f->ready = f->after_sockets;
		add_move(f, p->ready, f->ready);
		return 0;
	}
	if (w->ready_arg < FIRST_SOCKET + w->sockets.count || w->ready_arg >= FD_NUMBER_MAX)
		return EINVAL; /* taken by a socket or by standard input, output and error */
	f->ready = (int)w->ready_arg;
	add_move(f, p->ready, f->ready);
	return 0;
}

void exec_fds_plan(struct exec_plan *p)
{
	struct exec_fds *f = &p->fds;

	f->n = f->n_low = 0;
	f->ready = -1;
	f->step = EXEC_STEP_STDIO;
	f->err = plan_stdio(p, f);
	if (f->err != 0)
		return;
	f->step = EXEC_STEP_SOCKETS;
	f->err = plan_sockets(p, f);
	if (f->err == 0)
		f->err = plan_ready(p, f);
}

/* --- leaving the supervisor's table --- */

/* A descriptor's low copy, made once for all that need it in a row; -1 if there is none. */
static int low_copy(struct exec_fds *f, int fd)
{
	int copy;

	if (fd < FDS_HIGH)
		return fd;
	if (f->n_low > 0 && f->low_of == fd)
		return f->low[f->n_low - 1];
	if (f->n_low == EXEC_LOW_MAX)
		return -1;
	copy = fcntl(fd, F_DUPFD_CLOEXEC, FDS_LOW);
	if (copy < 0)
		return -1;
	f->low[f->n_low++] = copy;
	f->low_of = fd;
	return copy;
}

/* A small table is copied in no time, and then nobody has to be told of anything (fds_lift()). */
static bool table_is_small(void)
{
	return fcntl(FDS_HIGH, F_GETFD) < 0;
}

/* Linux 5.9; and no filter forbids it. */
static bool can_leave(void)
{
	static int can = -1;

	if (can < 0)
		can = raw3(SYS_close_range, ~0u, ~0u, CLOSE_RANGE_UNSHARE) == 0;
	return can;
}

static int higher(int a, int b)
{
	return a > b ? a : b;
}

bool exec_fds_share(struct exec_plan *p)
{
	struct exec_fds f = p->fds;
	int log = p->log, top, i;

	if (f.err != 0 || table_is_small() || !can_leave()) /* an error: the child only reports */
		return false;
	if (f.after_sockets > FIRST_SOCKET) /* a reload may close them any time */
		return false;
	if (p->in >= 0) /* the caller closes its own */
		return false;
	if (log >= 0)
		log = low_copy(&f, log);
	top = higher(higher(p->status, log), higher(p->mark_pipe[0], p->mark_pipe[1]));
	for (i = 0; i < f.n && (log >= 0 || p->log < 0); i++) {
		f.move[i].from = low_copy(&f, f.move[i].from);
		if (f.move[i].from < 0)
			break;
		top = higher(top, f.move[i].from);
	}
	f.above = top + 1;
	if (i == f.n && top < FDS_HIGH * 2) { /* all are low, and so the copy is short */
		p->fds = f;
		p->log = log;
		return true;
	}
	while (f.n_low > 0)
		fds_close(&f.low[--f.n_low]);
	return false;
}

void exec_fds_unshare(struct exec_plan *p)
{
	while (p->fds.n_low > 0)
		fds_close(&p->fds.low[--p->fds.n_low]);
}

int exec_fds_leave(const struct exec_plan *p)
{
	return raw_err(raw3(SYS_close_range, p->fds.above, ~0u, CLOSE_RANGE_UNSHARE));
}

/* --- moving; in the child --- */

static bool is_target(const struct exec_fds *mv, int fd)
{
	int i;

	for (i = 0; i < mv->n; i++)
		if (mv->move[i].to == fd)
			return true;
	return false;
}

/* Gives a descriptor a number from low on that no move is aimed at. */
static int duplicate_above(const struct exec_fds *mv, int fd, int low)
{
	int copy = (int)raw3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, low);

	if (copy >= 0 && is_target(mv, copy)) /* fd:N, right above the sockets */
		copy = (int)raw3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, copy + 1);
	return copy;
}

/* Moves *fd, and every move that starts from it, if it stands on a target. */
static int move_away(struct exec_fds *mv, int *fd, int low)
{
	int old = *fd, copy, i;

	if (!is_target(mv, old))
		return 0;
	copy = duplicate_above(mv, old, low);
	if (copy < 0)
		return -copy;
	*fd = copy;
	for (i = 0; i < mv->n; i++)
		if (mv->move[i].from == old)
			mv->move[i].from = copy;
	return 0;
}

static int clear_targets(struct exec_fds *mv, int *status, int low)
{
	int i, err = move_away(mv, status, low);

	for (i = 0; err == 0 && i < mv->n; i++) {
		int from = mv->move[i].from;

		err = move_away(mv, &from, low);
	}
	return err;
}

static int carry_out(const struct exec_fds *mv)
{
	long r = 0;
	int i;

	for (i = 0; i < mv->n && r >= 0; i++)
		r = raw3(SYS_dup3, mv->move[i].from, mv->move[i].to, 0);
	return raw_err(r);
}

/* --- closing; in the child --- */

static void close_between(unsigned first, unsigned last)
{
	unsigned fd, max = FD_NUMBER_MAX;
	struct rlimit64 rl = { .rlim_max = FD_NUMBER_MAX };

	if (first > last || raw3(SYS_close_range, first, last, 0) == 0)
		return;
	if (raw4(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &rl) == 0 && rl.rlim_max < max)
		max = (unsigned)rl.rlim_max;
	for (fd = first; fd <= last && fd < max; fd++)
		raw1(SYS_close, fd);
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

int exec_fds_apply(struct exec_plan *p, enum exec_step *step_r)
{
	struct exec_fds *f = &p->fds;
	int err = f->err;

	*step_r = f->step;
	if (err == 0)
		err = clear_targets(f, &p->status, f->after_sockets);
	if (err == 0)
		err = carry_out(f);
	if (err == 0)
		close_others(f->after_sockets, f->ready, p->status);
	return err;
}
