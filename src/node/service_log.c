/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The log pipe of a service: one pipe for all its lives, made at the first start. The read end
 * goes to root, which keeps it and lends it to the log process, so that output survives the
 * death of the child, of the log process and of this supervisor. Handing over never waits: until
 * it has worked, the pipe just fills. Runs in supervisor processes; allocates nothing.
 */
#include "node/service.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fds.h"
#include "node/service_mark.h"
#include "node/service_private.h"

#define KEEP_FIRST_MS 10
#define KEEP_MAX_MS 1000

const char *service_log_where(const struct service *s)
{
	static char buf[NODE_PATH_MAX + SPEC_PATH_MAX];
	const struct spec_worker *w = service_worker(s);
	const char *dir = spec_string(s->img, w->log_dir);

	if (w->log != SPEC_LOG_DIR || s->node->fd[NODE_FD_KEEP_W] < 0)
		return "";
	if (dir)
		return dir;
	if (s->node->dirs.log[0] == '\0')
		return "";
	snprintf(buf, sizeof buf, "%s/%s", s->node->dirs.log, spec_string(s->img, s->spec->path));
	return buf;
}

/* --- which settings the pipe was made for --- */

static uint64_t hash(uint64_t h, const void *p, size_t n)
{
	const uint8_t *b = p;
	size_t i;

	for (i = 0; i < n; i++)
		h = (h ^ b[i]) * 0x100000001b3u; /* FNV-1a */
	return h;
}

/* The pattern of ready = "log:REGEX", or "". */
static const char *regex_of(const struct service *s)
{
	const char *r = spec_string(s->img, service_worker(s)->ready_str);

	return service_worker(s)->ready == SPEC_READY_LOG && r ? r : "";
}

static uint64_t settings_key(const struct service *s, const char *dir)
{
	const struct spec_worker *w = service_worker(s);
	const char *regex = regex_of(s);
	uint64_t h = 0xcbf29ce484222325u;

	h = hash(h, dir, strlen(dir) + 1);
	h = hash(h, regex, strlen(regex) + 1);
	h = hash(h, &w->log_max_bytes, sizeof w->log_max_bytes);
	h = hash(h, &w->log_max_files, sizeof w->log_max_files);
	return hash(h, &w->log_timestamps, sizeof w->log_timestamps);
}

/* --- handing over --- */

static ssize_t send_keep(struct service *s)
{
	static struct proto_keep_log k; /* too big for the stack */
	static uint8_t buf[sizeof k + 64];
	const struct spec_worker *w = service_worker(s);
	int fd[2] = { s->log_r, s->log_ready_w };
	struct wire_out out;

	k.max_bytes = w->log_max_bytes;
	k.max_files = w->log_max_files;
	k.timestamps = w->log_timestamps;
	snprintf(k.path, sizeof k.path, "%s", spec_string(s->img, s->spec->path));
	snprintf(k.dir, sizeof k.dir, "%s", service_log_where(s));
	snprintf(k.regex, sizeof k.regex, "%s", regex_of(s));
	wire_out_init(&out, buf, sizeof buf);
	wire_put_u8(&out, KEEP_LOG);
	proto_put_keep_log(&out, &k);
	return fds_send(s->node->fd[NODE_FD_KEEP_W], buf, out.len, fd, fd[1] >= 0 ? 2 : 1);
}

static void keep_again(struct loop_timer *t);

/* Until it works: root may be busy, or out of memory for descriptors under way. */
static void keep(struct service *s)
{
	if (send_keep(s) >= 0) {
		fds_close(&s->log_r);
		fds_close(&s->log_ready_w);
		return;
	}
	loop_timer_set(s->loop, &s->keep, clock_mono_ms() + s->keep_ms, keep_again, s);
	s->keep_ms = s->keep_ms * 2 > KEEP_MAX_MS ? KEEP_MAX_MS : s->keep_ms * 2;
}

static void keep_again(struct loop_timer *t)
{
	keep(t->ctx);
}

/* --- what the log process says --- */

/* The pid of the process whose output matched; an earlier one's comes too late and means nothing. */
static void log_said(struct loop_source *src, uint32_t events)
{
	struct service *s = src->ctx;
	int32_t pid[16];
	ssize_t n = read(src->fd, pid, sizeof pid), i;

	(void)events;
	if (n == 0)
		service_close_source(s, src);
	for (i = 0; i < n / (ssize_t)sizeof pid[0]; i++)
		if (s->mode == SPEC_READY_LOG && s->pid != 0 && pid[i] == s->pid)
			s->probed = true;
	service_check_ready(s);
}

/* --- records of lives --- */

static void note_lost(struct service *s)
{
	if (s->marks_lost == 0)
		return;
	s->marks_lost = 0;
	s->ops->note(s->ctx, "its log takes no more: a start or exit record was left out");
}

static void give_up(struct service *s)
{
	s->marks_lost += s->exit_mark.len > 0;
	s->exit_mark.len = 0;
	note_lost(s);
}

void service_log_exit(struct service *s)
{
	s->exit_mark.len = 0;
	s->exit_mark_taken = false;
	s->mark_ms = KEEP_FIRST_MS;
	if (s->log_w >= 0)
		service_mark_exit(&s->exit_mark, s->node, s->last_pid, s->ran_ms, &s->reason);
}

static void flush_again(struct loop_timer *t)
{
	service_log_flush(t->ctx);
}

/* As long as no other process writes there, a record that finds no room may wait for it. */
void service_log_flush(struct service *s)
{
	loop_timer_cancel(s->loop, &s->mark_timer);
	if (s->exit_mark_taken || s->exit_mark.len == 0)
		return;
	if (service_marks_send_once(&s->exit_mark, s->log_w)) {
		s->exit_mark.len = 0;
	} else if (s->pid == 0 || s->reaped) {
		loop_timer_set(s->loop, &s->mark_timer, clock_mono_ms() + s->mark_ms, flush_again, s);
		s->mark_ms = s->mark_ms * 2 > KEEP_MAX_MS ? KEEP_MAX_MS : s->mark_ms * 2;
	} else {
		give_up(s);
	}
}

void service_log_launched(struct service *s, bool started, enum exec_marks marks)
{
	s->exit_mark_taken = marks == EXEC_MARKS_TAKEN && s->exit_mark.len > 0;
	if (marks == EXEC_MARKS_WRITTEN)
		s->exit_mark.len = 0;
	if (!started) {
		service_log_flush(s);
		return;
	}
	loop_timer_cancel(s->loop, &s->mark_timer);
	if (!s->exit_mark_taken)
		give_up(s); /* its time is over: from now on another process writes */
}

void service_log_marked(struct service *s, enum exec_marked marked)
{
	bool taken = s->exit_mark_taken;

	s->exit_mark_taken = false;
	if (marked == EXEC_MARKED_NOT) {
		if (taken)
			service_log_flush(s);
		return;
	}
	if (marked == EXEC_MARKED)
		s->exit_mark.len = 0;
	else
		s->marks_lost++; /* the start record */
	if (taken || marked == EXEC_MARKED_NO_ROOM)
		give_up(s);
}

/* --- the pipe --- */

void service_log_close(struct service *s)
{
	loop_timer_cancel(s->loop, &s->keep);
	service_log_flush(s);
	loop_timer_cancel(s->loop, &s->mark_timer);
	give_up(s);
	service_close_source(s, &s->log_ready);
	fds_close(&s->log_w);
	fds_close(&s->log_r);
	fds_close(&s->log_ready_w);
	s->log_key = 0;
}

static int open_pipe(int *r, int *w)
{
	int fd[2];

	if (pipe2(fd, O_CLOEXEC) < 0)
		return -1;
	fds_lift(&fd[0]);
	fds_lift(&fd[1]);
	*r = fd[0];
	*w = fd[1];
	return 0;
}

static int open_log_ready(struct service *s)
{
	int r;

	if (open_pipe(&r, &s->log_ready_w) < 0)
		return -1;
	if (fds_set_nonblock(r, true) < 0 || loop_attach(s->loop, &s->log_ready, r, EPOLLIN, log_said, s) < 0) {
		fds_close(&r);
		return -1;
	}
	return 0;
}

int service_log_prepare(struct service *s)
{
	const char *dir = service_log_where(s);
	uint64_t key = settings_key(s, dir);

	if (dir[0] == '\0') {
		service_log_close(s);
		return 0;
	}
	if (s->log_w >= 0 && s->log_key == key)
		return 0;
	service_log_close(s);
	if (open_pipe(&s->log_r, &s->log_w) < 0 || (regex_of(s)[0] != '\0' && open_log_ready(s) < 0)) {
		service_log_close(s);
		return -1;
	}
	s->log_key = key;
	s->keep_ms = KEEP_FIRST_MS;
	keep(s);
	return 0;
}
