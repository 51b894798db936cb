/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Tasks under a supervisor. The supervisor forks them, so they have its memory and not the caller's: the caller sends
 * the function and its bytes to the task when that is there, and the supervisor keeps none of it. A child that is
 * nobody's to wait for has its order in its specification, so that it can be restarted.
 *
 * Runs in the caller, and in the task. An order is a message; the task reads its bytes where they are.
 */
#include <coppice/task.h>

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "otp/task_private.h"

#define TASK_ORDER 0x54530010u /* "TS" */
#define ORDER_MS 5000          /* OTP's: a task waits so long to be told what to do */
#define ROUND(n) (((n) + 15) & ~(size_t)15)

_Static_assert(sizeof(struct task_order) % 16 == 0, "what comes behind is aligned");

/* --- in the task --- */

static _Noreturn void leave(const char *word)
{
	struct cop_exit reason = cop_exit_make_text(COP_EXIT_OTHER, 0, word);

	cop_exit(&reason);
}

static bool is_known(uint64_t address)
{
	Dl_info info;

	return address != 0 && dladdr((void *)(uintptr_t)address, &info) != 0;
}

static bool is_order(void *ctx, const struct cop_msg *m)
{
	const cop_pid *asker = ctx;

	return m->kind == COP_MSG_DOWN ||
	    (m->kind == COP_MSG_PLAIN && m->tag == TASK_ORDER && cop_pid_is(m->from, *asker));
}

static void obey(const struct task_order *o, size_t len)
{
	const unsigned char *data = (const unsigned char *)(o + 1);
	struct task_order order;
	size_t item_at;

	if (len < sizeof order)
		leave("bad_order");
	memcpy(&order, o, sizeof order); /* somebody may be writing over it */
	len -= sizeof order;
	if (!is_known(order.f) || order.ctx_size > len || order.size > len || ROUND(order.ctx_size) > len - order.size)
		leave("bad_order");
	if (order.stream == 0) {
		cop_task_f *f = (cop_task_f *)(uintptr_t)order.f;

		task_answer(f(data, order.size), order.to, order.ref);
	} else {
		cop_stream_work_f *f = (cop_stream_work_f *)(uintptr_t)order.f;

		item_at = ROUND(order.ctx_size);
		stream_answer(f((void *)(uintptr_t)data, data + item_at, order.size), order.to, order.ref,
		    order.stream - 1, order.position);
	}
}

/* Who asked may be gone before it says what for: then nobody wants it. */
static void child(void *arg)
{
	cop_pid asker;
	struct cop_msg m;
	cop_ref ref;

	memcpy(&asker, arg, sizeof asker);
	ref = cop_monitor(cop_to(asker));
	switch (cop_receive(&m, is_order, &asker, ORDER_MS)) {
	case 1:
		break;
	case 0:
		leave("timeout");
	default:
		leave("enomem");
	}
	if (m.kind == COP_MSG_DOWN) {
		char text[COP_EXIT_FORMAT_MAX];
		struct cop_exit reason;

		cop_exit_format(&m.reason, text, sizeof text);
		reason = cop_exit_make_text(COP_EXIT_SHUTDOWN, 0, text);
		cop_exit(&reason);
	}
	(void)cop_demonitor(ref, true);
	obey(m.data, m.len);
}

/* --- in who asks --- */

struct cop_child cop_task_child(const char *id, cop_proc_f *f, const void *arg, size_t size)
{
	return (struct cop_child){ .id = id, .run = f, .arg = arg, .arg_size = size, .restart = COP_TEMPORARY };
}

struct cop_supervisor cop_task_supervisor(const char *name, int32_t max_children)
{
	return (struct cop_supervisor){ .name = name, .dynamic = true, .max_children = max_children };
}

int task_child_start(struct cop_dest sup, int32_t shutdown_ms, struct cop_started *started_r)
{
	cop_pid self = cop_self();
	struct cop_child c = cop_task_child("task", child, &self, sizeof self);

	c.shutdown_ms = shutdown_ms;
	switch (cop_supervisor_start_child(sup, &c, started_r)) {
	case COP_STARTED:
		return 0;
	case COP_IGNORED:
		errno = ECANCELED;
		break;
	case COP_NOT_STARTED:
		break;
	}
	return -1;
}

struct task_order *task_order_new(size_t size, unsigned char **data_r)
{
	struct task_order *o = NULL;

	if (size > COP_MSG_MAX)
		errno = EMSGSIZE;
	else
		o = cop_msg_new(sizeof *o + size, 0);
	if (!o)
		return NULL;
	memset(o, 0, sizeof *o);
	*data_r = (unsigned char *)(o + 1);
	return o;
}

void task_order_send(uint64_t to, struct task_order *order)
{
	/* a new process's mailbox is not full */
	(void)cop_msg_send(cop_to((cop_pid){ to }), TASK_ORDER, order, 0);
}

static int give_up(struct task_order *order, cop_pid child_pid, bool link)
{
	int err = errno;

	cop_msg_drop(order);
	if (link)
		cop_unlink(child_pid);
	if (child_pid.id)
		cop_kill(child_pid);
	errno = err;
	return -1;
}

static int async(struct cop_dest sup, cop_task_f *f, const void *arg, size_t size,
    const struct cop_task_options *options, bool link, struct cop_task *task_r)
{
	struct cop_started started;
	struct task_order *o;
	unsigned char *data;
	cop_ref ref;

	o = task_order_new(size, &data);
	if (!o)
		return -1;
	if (size)
		memcpy(data, arg, size);
	if (task_child_start(sup, options ? options->shutdown_ms : 0, &started) < 0)
		return give_up(o, COP_NOPID, false);
	if (link && cop_link(started.pid) < 0)
		return give_up(o, started.pid, false);
	ref = proc_monitor(started.pid.id);
	if (!ref.id) {
		errno = ENOMEM;
		return give_up(o, started.pid, link);
	}
	o->f = (uintptr_t)f;
	o->to = proc.id;
	o->ref = ref.id;
	o->size = size;
	task_order_send(started.pid.id, o);
	*task_r = (struct cop_task){ started.pid, ref, { proc.id } };
	return 0;
}

int cop_task_supervisor_async(struct cop_dest sup, cop_task_f *f, const void *arg, size_t size,
    const struct cop_task_options *options, struct cop_task *task_r)
{
	PROC_REQUIRE();
	return async(sup, f, arg, size, options, true, task_r);
}

int cop_task_supervisor_async_nolink(struct cop_dest sup, cop_task_f *f, const void *arg, size_t size,
    const struct cop_task_options *options, struct cop_task *task_r)
{
	PROC_REQUIRE();
	return async(sup, f, arg, size, options, false, task_r);
}

/* --- children that nobody waits for --- */

struct alone {
	_Alignas(16) cop_task_f *f;
	size_t size;
};

static void alone(void *arg)
{
	const struct alone *a = arg;

	task_answer(a->f(a + 1, a->size), 0, 0);
}

/* What makes no sense makes none to the supervisor either. */
static uint8_t restart_of(uint8_t restart)
{
	switch ((enum cop_task_restart)restart) {
	case COP_TASK_TEMPORARY:
		return COP_TEMPORARY;
	case COP_TASK_TRANSIENT:
		return COP_TRANSIENT;
	case COP_TASK_PERMANENT:
		return COP_PERMANENT;
	}
	return UINT8_MAX;
}

enum cop_start cop_task_supervisor_start_child(struct cop_dest sup, cop_task_f *f, const void *arg, size_t size,
    const struct cop_task_options *options, struct cop_started *started_r)
{
	struct cop_child c = cop_task_child("task", alone, NULL, sizeof(struct alone) + size);
	struct alone *a = size <= COP_MSG_MAX ? malloc(c.arg_size) : NULL;
	enum cop_start r;

	PROC_REQUIRE();
	memset(started_r, 0, sizeof *started_r);
	if (!a) {
		bool fits = size <= COP_MSG_MAX;

		started_r->reason = cop_exit_make_text(COP_EXIT_OTHER, 0, fits ? "enomem" : "message_too_big");
		errno = fits ? ENOMEM : EMSGSIZE;
		return COP_NOT_STARTED;
	}
	a->f = f;
	a->size = size;
	if (size)
		memcpy(a + 1, arg, size);
	c.arg = a;
	if (options) {
		c.restart = restart_of(options->restart);
		c.shutdown_ms = options->shutdown_ms;
	}
	r = cop_supervisor_start_child(sup, &c, started_r);
	free(a);
	return r;
}

long cop_task_supervisor_children(struct cop_dest sup, cop_pid *pids_r, size_t max)
{
	struct cop_child_info *info = NULL, *more;
	size_t room = 64, i, n_running = 0;
	long n;

	PROC_REQUIRE();
	do {
		room *= 4;
		more = reallocarray(info, room, sizeof *info);
		if (!more) {
			free(info);
			errno = ENOMEM;
			return -1;
		}
		info = more;
		n = cop_supervisor_which_children(sup, info, room);
	} while (n > (long)room);
	for (i = 0; n > 0 && i < (size_t)n; i++) {
		if (info[i].state != COP_CHILD_RUNNING)
			continue;
		if (n_running < max)
			pids_r[n_running] = info[i].pid;
		n_running++;
	}
	free(info);
	return n < 0 ? -1 : (long)n_running;
}

int cop_task_supervisor_terminate_child(struct cop_dest sup, cop_pid pid)
{
	PROC_REQUIRE();
	return cop_supervisor_terminate_pid(sup, pid);
}
