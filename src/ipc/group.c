/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Everything a child has started, as one thing (group.h). Decides between a cgroup and the
 * fallback. Runs in root and supervisors. A group owns two descriptors: its
 * directory and the file of its events. Never allocates after group_base_open().
 *
 * COPPICE_NO_CGROUP=1 in the environment of root chooses the fallback.
 */
#include "ipc/group.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fds.h"
#include "ipc/group_private.h"

#define HIDING_MS 200     /* longer than any execve takes to show its arguments */
#define MAKE_TRIES 20     /* of a cgroup that another node is sweeping away */
#define BASE_WAIT_MS 2000 /* for what a former node left, and at the node's end */

/* --- bases --- */

/* Kills what is in a cgroup until it is empty, or for so long. Blocks: only for a node's start and end. */
static void empty(int dirfd, int64_t wait_ms)
{
	int64_t until = clock_mono_ms() + wait_ms;
	int events = cgroup_open_events(dirfd);
	struct pollfd p = { .fd = events, .events = POLLPRI };

	while (events >= 0 && cgroup_populated(events) && clock_mono_ms() < until) {
		cgroup_kill(dirfd);
		poll(&p, 1, 20);
	}
	fds_close(&events);
}

/* Empties and removes `name` below parent, if it is there. */
static void clear(int parent, const char *name)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return;
	empty(fd, BASE_WAIT_MS);
	close(fd);
	cgroup_remove(parent, name);
}

/* Removes a cgroup if it is one that a node left empty when it was killed: a living node has locked it. */
static void sweep_one(int parent, const char *name)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), events;

	if (fd < 0)
		return;
	events = cgroup_open_events(fd);
	if (flock(fd, LOCK_EX | LOCK_NB) == 0 && events >= 0 && !cgroup_populated(events))
		cgroup_remove(parent, name); /* with the lock held: see make_base() */
	fds_close(&events);
	close(fd);
}

/* Removes what other nodes left, which are known by what their names begin with, up to the first dot. */
static void sweep(int parent, const char *like)
{
	size_t kind = strcspn(like, ".") + 1;
	char name[NAME_MAX + 1];

	while (dir_next(parent, name, sizeof name))
		if (strncmp(name, like, kind) == 0)
			sweep_one(parent, name);
}

/* Makes our own and locks it, so that no other node sweeps it away; again, if one did so in between. Whoever
 * has the lock now is about to. */
static int make_base(int parent, const char *name)
{
	int fd = -1, tries;
	bool existed;

	for (tries = 0; tries < MAKE_TRIES; tries++) {
		fd = cgroup_make(parent, name, &existed);
		if (fd < 0)
			return -1;
		if (flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
			poll(NULL, 0, 10);
		else if (faccessat(parent, name, F_OK, 0) == 0)
			return fd;
		fds_close(&fd);
	}
	return -1;
}

void group_base_open(struct group_base *base, const char *name)
{
	const char *no = getenv("COPPICE_NO_CGROUP");
	int own = no && strcmp(no, "1") == 0 ? -1 : cgroup_open_own();

	base->dirfd = -1;
	if (own < 0)
		return;
	clear(own, name);
	sweep(own, name);
	base->dirfd = make_base(own, name);
	close(own);
	if (base->dirfd >= 0)
		group_try_clone(base->dirfd);
}

void group_base_remove(struct group_base *base, const char *name)
{
	int parent;

	if (base->dirfd < 0)
		return;
	parent = openat(base->dirfd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fds_close(&base->dirfd);
	if (parent < 0)
		return;
	clear(parent, name);
	close(parent);
}

void group_base_kill(const struct group_base *base)
{
	if (base->dirfd >= 0)
		cgroup_kill(base->dirfd);
}

/* --- one group --- */

void group_forget_cgroup(struct group *g)
{
	fds_close(&g->dirfd);
	fds_close(&g->events_fd);
}

void group_open(struct group *g, const struct group_base *base, const char *name)
{
	*g = (struct group){ .dirfd = -1, .events_fd = -1 };
	if (base->dirfd < 0)
		return;
	g->dirfd = cgroup_make(base->dirfd, name, &g->killed); /* what is left of another life may have been */
	if (g->dirfd < 0)
		return;
	g->events_fd = cgroup_open_events(g->dirfd);
	if (g->events_fd < 0) {
		group_forget_cgroup(g);
		return;
	}
	fds_lift(&g->dirfd);
	fds_lift(&g->events_fd);
}

/* Unique is what it has to be; when the kernel has no random bytes yet, time and pid serve. */
static void draw(uint8_t *raw, size_t n)
{
	static uint64_t count;
	uint64_t seed[2];

	if (getrandom(raw, n, GRND_NONBLOCK) == (ssize_t)n)
		return;
	seed[0] = (uint64_t)clock_mono_ns() ^ (uint64_t)clock_real_us() << 20;
	seed[1] = (uint64_t)getpid() << 32 | ++count;
	memcpy(raw, seed, n < sizeof seed ? n : sizeof seed);
}

void group_renew(struct group *g)
{
	static const char hex[] = "0123456789abcdef";
	uint8_t raw[GROUP_INVOCATION / 2];
	size_t i;

	draw(raw, sizeof raw);
	for (i = 0; i < sizeof raw; i++) {
		g->invocation[2 * i] = hex[raw[i] >> 4];
		g->invocation[2 * i + 1] = hex[raw[i] & 15];
	}
	g->invocation[GROUP_INVOCATION] = '\0';
}

void group_close(struct group *g, const struct group_base *base, const char *name)
{
	bool had = g->dirfd >= 0;

	group_forget_cgroup(g);
	if (had && base->dirfd >= 0)
		cgroup_remove(base->dirfd, name);
}

void group_as_base(const struct group *g, struct group_base *base_r)
{
	base_r->dirfd = g->dirfd;
}

/* --- who is left, and signals --- */

struct strays {
	group_living_f *living;
	void *ctx;
	pid_t main;
	int sig;   /* to send; 0: only look */
	bool any;
};

/* A process within execve shows no environment for a moment, and may be a living child's. Whoever goes on
 * like that is not executing but hiding. */
static bool is_undecided(pid_t pid)
{
	static pid_t suspect;
	static int64_t since_ms;
	int64_t now;

	if (!proc_is_executing(pid))
		return false;
	now = clock_mono_ms();
	if (pid != suspect) {
		suspect = pid;
		since_ms = now;
	}
	return now - since_ms < HIDING_MS;
}

enum stray { STRAY_NO, STRAY_YES, STRAY_MAYBE };

/* Tells whether this child of ours is an orphan that belongs to no living child. */
static enum stray is_stray(const struct strays *s, pid_t pid)
{
	char inv[GROUP_INVOCATION + 1];
	struct proc_info info;

	if (pid == s->main || s->living(s->ctx, "", pid) || !proc_stat(pid, &info))
		return STRAY_NO;
	if (info.state == 'Z' || info.state == 'X')
		return STRAY_MAYBE;
	proc_invocation(pid, inv);
	if (s->living(s->ctx, inv, info.session))
		return STRAY_NO;
	return inv[0] == '\0' && is_undecided(pid) ? STRAY_MAYBE : STRAY_YES;
}

static bool serve_stray(void *ctx, pid_t pid)
{
	struct strays *s = ctx;

	enum stray stray = is_stray(s, pid);

	if (stray == STRAY_NO)
		return true;
	s->any = true;
	if (s->sig == 0)
		return false; /* one is enough */
	if (stray == STRAY_YES)
		kill(pid, s->sig); /* our child, not reaped: nobody else can have the number */
	return true;
}

/* Tells whether the main process is still our child, be it dead: then its number is its own. */
static bool has_main(const struct group *g)
{
	struct proc_info info;

	return g->main > 0 && proc_stat(g->main, &info) && info.parent == getpid();
}

void group_signal(struct group *g, int sig, group_living_f *living, void *ctx)
{
	struct strays s = { .living = living, .ctx = ctx, .main = g->main, .sig = sig };

	if (g->dirfd >= 0 && sig == SIGKILL) {
		g->killed = true;
		cgroup_kill(g->dirfd);
	} else if (g->dirfd >= 0) {
		cgroup_signal(g->dirfd, sig);
	} else {
		if (has_main(g)) {
			/* It leads its group as long as it is not reaped; before its setsid there is none. */
			kill(-g->main, sig);
			kill(g->main, sig);
		}
		proc_each_child(serve_stray, &s);
	}
}

bool group_populated(struct group *g, group_living_f *living, void *ctx)
{
	struct strays s = { .living = living, .ctx = ctx, .main = g->main };

	if (g->events_fd >= 0)
		return cgroup_populated(g->events_fd);
	if (has_main(g))
		return true;
	return !proc_each_child(serve_stray, &s) || s.any; /* who cannot look does not say: empty */
}

bool group_contains(const struct group *g, pid_t pid)
{
	char inv[GROUP_INVOCATION + 1];
	struct proc_info info;

	if (pid <= 0)
		return false;
	if (pid == g->main)
		return true;
	if (g->dirfd >= 0)
		return cgroup_contains(g->dirfd, pid);
	if (g->main > 0 && proc_stat(pid, &info) && info.session == g->main)
		return true;
	proc_invocation(pid, inv);
	return inv[0] != '\0' && strcmp(inv, g->invocation) == 0;
}

static bool kill_one(void *ctx, pid_t pid)
{
	(void)ctx;
	kill(pid, SIGKILL);
	return true;
}

void group_kill_children(void)
{
	proc_each_child(kill_one, NULL);
}

struct known {
	group_known_f *known;
	void *ctx;
};

static bool kill_unknown(void *ctx, pid_t pid)
{
	const struct known *k = ctx;

	if (!k->known(k->ctx, pid))
		kill(pid, SIGKILL); /* ours and not reaped: the number is its own */
	return true;
}

void group_kill_strays(group_known_f *known, void *ctx)
{
	struct known k = { known, ctx };

	proc_each_child(kill_unknown, &k);
}

int group_count_children(void)
{
	return proc_count_children();
}

void group_forget_children(void)
{
	proc_forget_children();
}

void group_invocation(pid_t pid, char inv_r[GROUP_INVOCATION + 1])
{
	proc_invocation(pid, inv_r);
}
