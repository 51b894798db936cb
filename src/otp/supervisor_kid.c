/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The children of a library's supervisor: processes of all kinds, from the core's START to its EXITED. A
 * start is over when the child has said so on the pipe (an executable: when it executes); a child that said
 * that its start failed is waited for before the core hears of it. Runs in supervisor processes.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/apart.h"
#include "base/clock.h"
#include "base/fds.h"
#include "otp/supervisor_private.h"

#define DRAIN_MS 100       /* between looks at what a dead supervisor left */
#define DRAIN_KILL_MS 5500 /* then it is killed: it has had its time */

int kid_pid_cmp(struct kid *a, struct kid *b)
{
	return a->os_pid < b->os_pid ? -1 : a->os_pid > b->os_pid;
}

RB_GENERATE(kids_by_os_pid, kid, by_os_pid, kid_pid_cmp)

/* --- making and forgetting --- */

static struct sup_child_spec core_spec(const struct cop_child *c)
{
	struct sup_child_spec s = {
		.restart = c->restart, .supervisor = c->supervisor != NULL, .significant = c->significant, .enabled = true,
	};

	switch (c->shutdown_ms) {
	case 0:
		s.shutdown_ms = c->supervisor ? SUP_SHUTDOWN_INFINITY : 5000;
		break;
	case COP_SHUTDOWN_INFINITY:
		s.shutdown_ms = SUP_SHUTDOWN_INFINITY;
		break;
	case COP_SHUTDOWN_BRUTAL_KILL:
		s.shutdown_ms = SUP_SHUTDOWN_BRUTAL;
		break;
	case COP_SHUTDOWN_AT_ONCE:
		s.shutdown_ms = 0;
		break;
	default:
		s.shutdown_ms = c->shutdown_ms;
		break;
	}
	return s;
}

static bool room_for(struct supervisor *sv, uint32_t slot)
{
	uint32_t cap = sv->kids_cap ? sv->kids_cap : 16;
	struct kid **k;

	while (cap <= slot)
		cap *= 2;
	if (cap == sv->kids_cap)
		return true;
	k = apart_grow(sv->kids, sv->kids_cap * sizeof *k, cap * sizeof *k);
	if (!k)
		return false;
	sv->kids = k;
	sv->kids_cap = cap;
	return true;
}

#define KIDS_AT_ONCE 128

/* The first few from ordinary memory; then by the block, apart. */
static struct kid *new_kid(struct supervisor *sv)
{
	struct kid *k;
	size_t i;

	if (!sv->free_kids && sv->n_kids < KIDS_AT_ONCE)
		return calloc(1, sizeof *k);
	if (!sv->free_kids) {
		size_t size = KIDS_AT_ONCE * sizeof *k;

		k = apart_grow(NULL, 0, size < APART_FROM ? APART_FROM : size);
		for (i = 0; k && i < KIDS_AT_ONCE; i++) {
			k[i].next_free = sv->free_kids;
			sv->free_kids = &k[i];
		}
	}
	k = sv->free_kids;
	if (k) {
		sv->free_kids = k->next_free;
		memset(k, 0, sizeof *k);
	}
	return k;
}

static void give_back(struct supervisor *sv, struct kid *k)
{
	free(k->packed);
	k->packed = NULL;
	k->next_free = sv->free_kids;
	sv->free_kids = k;
}

static enum kid_kind kind_of(const struct cop_child *c)
{
	if (c->supervisor)
		return KID_SUPERVISOR;
	return c->exec ? KID_PROGRAM : c->run ? KID_FUNCTION : KID_SERVER;
}

struct kid *kid_add(struct supervisor *sv, const struct cop_child *spec, const void *packed, size_t len)
{
	struct sup_child_spec core = core_spec(spec);
	struct kid *k = new_kid(sv);
	int err;

	if (!k) {
		errno = ENOMEM;
		return NULL;
	}
	if (packed)
		k->packed = malloc(len);
	if ((packed && !k->packed) || !room_for(sv, sup_slots(sv->core))) {
		give_back(sv, k);
		errno = ENOMEM;
		return NULL;
	}
	if (sup_child_add(sv->core, &core, sup_last(sv->core), &k->slot) < 0) {
		err = errno;
		give_back(sv, k);
		errno = err;
		return NULL;
	}
	if (packed)
		memcpy(k->packed, packed, len);
	k->packed_len = len;
	k->sv = sv;
	k->spec = packed ? NULL : spec;
	k->kind = (uint8_t)kind_of(spec);
	k->down_fd = -1;
	k->status.fd = -1;
	memcpy(k->id, spec->id ? spec->id : "", spec->id ? strnlen(spec->id, SUPERVISOR_ID_MAX) : 0);
	sv->kids[k->slot] = k;
	sv->n_kids++;
	return k;
}

void kid_forget(struct kid *k)
{
	struct supervisor *sv = k->sv;

	sv->kids[k->slot] = NULL;
	if (sv->starting == k)
		sv->starting = NULL;
	loop_timer_cancel(&sv->loop, &k->timer);
	loop_timer_cancel(&sv->loop, &k->drain);
	sv->n_kids--;
	give_back(sv, k);
}

/* --- descriptors that new processes must not keep --- */

static int keep_from_children(struct supervisor *sv, int fd)
{
	int *l;

	if (sv->n_fds == sv->cap_fds) {
		l = realloc(sv->fds, (sv->cap_fds * 2 + 16) * sizeof *l);
		if (!l)
			return -1;
		sv->fds = l;
		sv->cap_fds = sv->cap_fds * 2 + 16;
	}
	sv->fds[sv->n_fds++] = fd;
	return 0;
}

static void close_kept(struct supervisor *sv, int *fd)
{
	uint32_t i;

	for (i = 0; i < sv->n_fds && *fd >= 0; i++)
		if (sv->fds[i] == *fd) {
			sv->fds[i] = sv->fds[--sv->n_fds];
			break;
		}
	fds_close(fd);
}

/* --- in the new process --- */

/* Everything that it needs of what is kept apart. */
struct birth {
	struct supervisor *sv;
	const struct cop_child *spec;
	int down_r;
};

/* What is the supervisor's alone must not live on in its children: a pipe's end would never come. */
static void close_supervisors(struct supervisor *sv)
{
	uint32_t i;

	loop_after_fork(&sv->loop);
	fds_close(&sv->up_r);
	fds_close(&sv->sigfd);
	fds_close(&sv->down_fd);
	for (i = 0; i < sv->n_fds; i++)
		close(sv->fds[i]);
}

static void unblock_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIG_PARENT_DIED);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
}

static void run_function(const struct cop_child *c)
{
	struct cop_started failed;

	if (server_take_names(c->name, c->via, &failed) < 0) {
		server_ack(COP_NOT_STARTED, &failed.reason);
		proc_die(&failed.reason);
	}
	server_ack(COP_STARTED, NULL);
	c->run((void *)(uintptr_t)c->arg);
}

static void child_process(void *arg)
{
	struct birth *b = arg;
	const struct cop_child *c = b->spec;
	struct server_start start = { .name = c->name, .arg = c->arg, .arg_size = c->arg_size,
		.via = c->via };

	close_supervisors(b->sv);
	prctl(PR_SET_CHILD_SUBREAPER, c->supervisor != NULL);
	unblock_signals();
	if (b->sv->partitioned)
		atomic_store(&proc.slot->user, (uint32_t)strtoul(c->id, NULL, 10) + 1);
	if (c->supervisor)
		supervisor_main(c->supervisor, b->down_r);
	if (c->run)
		run_function(c);
	else
		server_run(c->server, &start);
}

/* --- starting --- */

static void feed(struct kid *k, enum sup_event_type type, enum sup_start_result result, const struct cop_exit *reason)
{
	struct sup_event ev = { .type = (uint8_t)type, .slot = k->slot, .result = (uint8_t)result,
		.now_ms = clock_mono_ms() };

	if (reason)
		ev.reason = *reason;
	supervisor_feed(k->sv, &ev);
}

static void start_failed(struct kid *k, const struct cop_exit *reason)
{
	supervisor_report(k->sv, COP_REPORT_START_ERROR, k, reason);
	if (supervisor_order_first(k->sv)) {
		/* the order came before the retry would; to the core, this child is being stopped now */
		k->starting = false;
		feed(k, SUP_EV_EXITED, 0, reason);
		return;
	}
	k->starting = false;
	feed(k, SUP_EV_STARTED, SUP_START_FAILED, reason);
}

static void no_process(struct kid *k, int err)
{
	struct cop_exit reason = cop_exit_make_text(COP_EXIT_EXEC, err, "fork");

	start_failed(k, &reason);
}

static const char *label_of(const struct kid *k, const struct cop_child *c)
{
	if (c->supervisor && c->supervisor->name)
		return c->supervisor->name;
	return c->name ? c->name : k->id;
}

static void is_there(struct kid *k, pid_t os_pid, uint64_t pid)
{
	k->os_pid = os_pid;
	k->pid = pid;
	RB_INSERT(kids_by_os_pid, &k->sv->pids, k);
}

static void start_process(struct kid *k, const struct cop_child *c)
{
	struct supervisor *sv = k->sv;
	struct birth b = { .sv = sv, .spec = c, .down_r = -1 };
	char label[SEG_NAME] = ""; /* the child does not have ours */
	int os_pid = 0;
	struct proc_spawn how = { .f = child_process, .arg = &b, .acks = true, .supervisor = c->supervisor != NULL,
		.up_fd = sv->up_w, .label = label, .os_pid_r = &os_pid };
	int fd[2] = { -1, -1 };
	cop_pid pid;

	memcpy(label, label_of(k, c), strnlen(label_of(k, c), sizeof label - 1));
	if (c->supervisor) {
		if (pipe2(fd, O_CLOEXEC | O_NONBLOCK) < 0) {
			no_process(k, errno);
			return;
		}
		b.down_r = fd[0];
		k->down_fd = fd[1];
		if (keep_from_children(sv, fd[1]) < 0) {
			fds_close(&fd[0]);
			fds_close(&k->down_fd);
			no_process(k, ENOMEM);
			return;
		}
	}
	if (proc_spawn(&how, &pid, NULL) < 0) {
		int err = errno;

		fds_close(&fd[0]);
		close_kept(sv, &k->down_fd);
		no_process(k, err);
		return;
	}
	fds_close(&fd[0]);
	is_there(k, os_pid, pid.id);
}

static _Noreturn void exec_program(const char *const *exec, int status, pid_t parent)
{
	sigset_t none;
	int err, sig;

	setsid();
	for (sig = 1; sig < NSIG; sig++)
		if (sig != SIGKILL && sig != SIGSTOP)
			signal(sig, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(137);
	execvp(exec[0], (char *const *)(uintptr_t)exec);
	err = errno;
	while (write(status, &err, sizeof err) < 0 && errno == EINTR)
		;
	_exit(err == ENOENT ? 127 : 126);
}

/* The end of the status pipe: it executes, or not. */
static void exec_told(struct loop_source *src, uint32_t events)
{
	struct kid *k = src->ctx;
	int fd = k->status.fd, err = 0;

	(void)events;
	if (read(fd, &err, sizeof err) == sizeof err)
		k->exec_err = err;
	loop_detach(&k->sv->loop, &k->status);
	close_kept(k->sv, &fd);
	if (k->exec_err || k->ending || !k->starting)
		return; /* its death tells the rest */
	k->starting = false;
	k->sv->starting = NULL;
	supervisor_report(k->sv, COP_REPORT_PROGRESS, k, NULL);
	feed(k, SUP_EV_STARTED, SUP_START_OK, NULL);
}

static void start_program(struct kid *k, const struct cop_child *c)
{
	pid_t me = getpid(), pid;
	int fd[2];

	if (pipe2(fd, O_CLOEXEC) < 0) {
		no_process(k, errno);
		return;
	}
	pid = proc_fork_plain();
	if (pid == 0)
		exec_program(c->exec, fd[1], me);
	close(fd[1]);
	if (pid < 0 || keep_from_children(k->sv, fd[0]) < 0 ||
	    loop_attach(&k->sv->loop, &k->status, fd[0], EPOLLIN, exec_told, k) < 0) {
		int err = errno;

		close_kept(k->sv, &fd[0]);
		if (pid > 0) {
			is_there(k, pid, 0);
			kill(pid, SIGKILL); /* its death is the failure of the start */
			return;
		}
		no_process(k, err);
		return;
	}
	is_there(k, pid, 0);
}

void kid_start(struct kid *k)
{
	struct cop_child *own = NULL;

	k->sv->starting = k;
	k->starting = true;
	k->ending = k->killed = k->acked = k->draining = false;
	k->exec_err = 0;
	if (k->packed) {
		own = supervisor_unpack(k->packed, k->packed_len);
		if (!own) {
			no_process(k, ENOMEM);
			return;
		}
	}
	if (k->kind == KID_PROGRAM)
		start_program(k, own ? own : k->spec);
	else
		start_process(k, own ? own : k->spec);
	free(own); /* the new process has its copy */
}

void kid_acked(struct kid *k, const struct up_ack *ack)
{
	k->acked = true;
	k->how = ack->how;
	k->how_reason = ack->reason;
	if (k->how == COP_STARTED)
		k->up_pid = k->pid;
	if (k->how != COP_STARTED || k->ending)
		return; /* the rest is told by its death */
	k->starting = false;
	k->sv->starting = NULL;
	supervisor_report(k->sv, COP_REPORT_PROGRESS, k, NULL);
	feed(k, SUP_EV_STARTED, SUP_START_OK, NULL);
}

/* --- stopping --- */

/* With no time to end in, the KILL follows at once: who traps exits gets to do nothing, and so is not asked. */
static bool killed_at_once(const struct kid *k)
{
	return sup_child_get(k->sv->core, k->slot)->shutdown_ms == 0 && seg_is_there(&proc.seg, k->pid) &&
	    atomic_load(&proc.seg.slots[SEG_INDEX(k->pid)].trap);
}

#define STOP_AGAIN_MS 5

static void stop_again(struct loop_timer *t)
{
	struct kid *k = t->ctx;

	if (k->os_pid != 0 && k->ending && !k->killed)
		kid_stop(k);
}

void kid_stop(struct kid *k)
{
	struct cop_exit shutdown = cop_exit_make(COP_EXIT_SHUTDOWN, 0);

	k->ending = true;
	if (k->os_pid == 0)
		return; /* what a dead supervisor left is going anyway */
	if (k->kind != KID_PROGRAM && killed_at_once(k))
		return;
	if (k->kind == KID_SUPERVISOR) {
		if (write(k->down_fd, "s", 1) < 0 && errno != EPIPE && errno != EAGAIN)
			kid_kill(k);
	} else if (k->kind == KID_PROGRAM) {
		kill(k->os_pid, SIGTERM);
		kill(k->os_pid, SIGCONT);
	} else if (seg_is_there(&proc.seg, k->pid) && seg_slot_state(&proc.seg, SEG_INDEX(k->pid)) == SEG_SLOT_ALIVE) {
		/* without memory to ask it, later: it may have all the time there is to end in */
		if (!proc_exit_signal(k->pid, proc.id, &shutdown))
			loop_timer_set(&k->sv->loop, &k->drain, clock_mono_ms() + STOP_AGAIN_MS, stop_again, k);
	} else {
		kill(k->os_pid, SIGKILL); /* it is there, but its slot says otherwise: somebody has written over it */
	}
}

void kid_kill(struct kid *k)
{
	struct cop_exit killed = cop_exit_make(COP_EXIT_KILLED, 0);

	k->ending = k->killed = true;
	if (k->os_pid == 0)
		return;
	if (k->kind == KID_PROGRAM)
		kill(-k->os_pid, SIGKILL);
	else
		proc_end_other(k->pid, &killed);
	kill(k->os_pid, SIGKILL); /* ours and not reaped: the number is its own */
}

/* --- ends --- */

/* What a dead supervisor's children are to their supervisor, and now to us. */
static bool has_left(uint64_t dead)
{
	uint32_t i, top = atomic_load(&proc.seg.h->slot_top);

	for (i = 1; i < top && i < proc.seg.max_procs; i++)
		if (proc.seg.slots[i].parent == dead && seg_slot_state(&proc.seg, i) != SEG_SLOT_FREE &&
		    atomic_load(&proc.seg.pids[i]) > 0)
			return true;
	return false;
}

static void kill_left(uint64_t dead)
{
	struct cop_exit killed = cop_exit_make(COP_EXIT_KILLED, 0);
	uint32_t i, top = atomic_load(&proc.seg.h->slot_top);

	for (i = 1; i < top && i < proc.seg.max_procs; i++)
		if (proc.seg.slots[i].parent == dead && seg_slot_state(&proc.seg, i) == SEG_SLOT_ALIVE)
			proc_end_other(atomic_load(&proc.seg.slots[i].id), &killed);
}

static bool expected(const struct kid *k, const struct cop_exit *r)
{
	const struct sup_child_spec *s = sup_child_get(k->sv->core, k->slot);

	if (k->killed && s->shutdown_ms == SUP_SHUTDOWN_BRUTAL && r->kind == COP_EXIT_KILLED)
		return true;
	if (k->kind == KID_PROGRAM && r->kind == COP_EXIT_NORMAL)
		return true; /* the way of a daemon that was asked to end */
	if (r->kind == COP_EXIT_SHUTDOWN)
		return r->text[0] == '\0' || s->restart != SUP_PERMANENT;
	return r->kind == COP_EXIT_NORMAL && s->restart != SUP_PERMANENT;
}

static void ended(struct kid *k)
{
	struct cop_exit reason = k->end;

	k->sv->n_draining -= k->draining;
	k->draining = false;
	loop_timer_cancel(&k->sv->loop, &k->drain);
	if (k->sv->starting == k)
		k->sv->starting = NULL;
	if (k->ending) {
		k->starting = false;
		if (!expected(k, &reason))
			supervisor_report(k->sv, COP_REPORT_SHUTDOWN_ERROR, k, &reason);
		feed(k, SUP_EV_EXITED, 0, &reason);
	} else if (!k->starting) {
		if (sup_child_get(k->sv->core, k->slot)->restart == SUP_PERMANENT || !cop_exit_is_clean(&reason))
			supervisor_report(k->sv, COP_REPORT_CHILD_TERMINATED, k, &reason);
		feed(k, SUP_EV_EXITED, 0, &reason);
	} else if (k->acked && k->how == COP_IGNORED) {
		k->starting = false;
		feed(k, SUP_EV_STARTED, SUP_START_IGNORE, NULL);
	} else {
		if (k->acked)
			reason = k->how_reason;
		else if (k->exec_err)
			reason = cop_exit_make_text(COP_EXIT_EXEC, k->exec_err, "exec");
		start_failed(k, &reason);
	}
}

static void drain_again(struct loop_timer *t)
{
	struct kid *k = t->ctx;

	if (!k->draining)
		return;
	if (has_left(k->pid)) {
		if (clock_mono_ms() - k->drain_since_ms > DRAIN_KILL_MS)
			kill_left(k->pid);
		loop_timer_set(&k->sv->loop, t, clock_mono_ms() + DRAIN_MS, drain_again, k);
		return;
	}
	ended(k);
}

void kid_reaped(struct kid *k, const struct cop_exit *reason)
{
	RB_REMOVE(kids_by_os_pid, &k->sv->pids, k);
	if (k->kind == KID_PROGRAM) {
		kill(-k->os_pid, SIGKILL); /* what it left in its session's group */
		if (k->status.fd >= 0)
			exec_told(&k->status, 0);
	}
	k->os_pid = 0;
	close_kept(k->sv, &k->down_fd);
	k->end = *reason;
	if (k->kind == KID_PROGRAM && k->ending && reason->kind == COP_EXIT_SIGNAL && reason->value == SIGTERM)
		k->end = cop_exit_make(COP_EXIT_SHUTDOWN, 0);
	if (k->kind == KID_PROGRAM && k->killed && reason->kind == COP_EXIT_SIGNAL && reason->value == SIGKILL)
		k->end = cop_exit_make(COP_EXIT_KILLED, 0);
	if (k->kind == KID_SUPERVISOR && has_left(k->pid)) {
		k->draining = true;
		k->sv->n_draining++;
		k->drain_since_ms = clock_mono_ms();
		loop_timer_set(&k->sv->loop, &k->drain, clock_mono_ms() + DRAIN_MS, drain_again, k);
		return;
	}
	ended(k);
}

void kids_drained(struct supervisor *sv)
{
	uint32_t i;

	for (i = 0; i < sv->kids_cap && sv->n_draining > 0; i++)
		if (sv->kids[i] && sv->kids[i]->draining && !has_left(sv->kids[i]->pid))
			ended(sv->kids[i]);
}
