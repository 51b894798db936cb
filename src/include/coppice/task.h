/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Task, Task.async_stream and Task.Supervisor: one function run in a process of its own, whose value comes back
 * as a message. A task that is not under a supervisor is forked from its caller, and so has the caller's memory
 * as it was then; one under a supervisor is forked from that, and gets only the bytes it is given.
 */
#ifndef COPPICE_TASK_H
#define COPPICE_TASK_H

#include <coppice/supervisor.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* --- what a task runs --- */

/* A task's value: made by the functions below only, and returned at once. */
struct cop_result {
	uint32_t node; /* the library's */
};

/* Makes the value of len bytes; copies. nothing: one of no bytes. When there is no memory for it, or it is longer
 * than a message may be, the task ends here: `enomem`, `reply_too_big`. */
struct cop_result cop_return(const void *data, size_t len);
struct cop_result cop_return_tag(uint32_t tag, const void *data, size_t len);
struct cop_result cop_return_nothing(void);
/* The same with data of cop_msg_new(), filled in place, which it takes. */
struct cop_result cop_return_msg(uint32_t tag, void *data);

/* What a task runs. Its process ends with `normal` when it returns. arg is the caller's own pointer, size as given;
 * under a supervisor a copy of size bytes, aligned to 16. */
typedef struct cop_result cop_task_f(const void *arg, size_t size);

/* --- one task --- */

/* May be copied, and kept as long as one likes. Only the process that made it, its owner, may wait for it: what is said
 * of awaiting, yielding, shutting down and ignoring below aborts in any other. */
struct cop_task {
	cop_pid pid;     /* COP_NOPID: of cop_task_completed() */
	cop_ref ref;     /* of the monitor, and of the reply */
	cop_pid owner;
};

/* Starts a task that is linked to the caller and must be awaited. 0, or -1 as cop_spawn(). Mirrors Task.async/1. */
int cop_task_async(cop_task_f *f, const void *arg, size_t size, struct cop_task *task_r)
    __attribute__((warn_unused_result));
/* Starts one whose value nobody gets; start_link links it. Does not wait for it to run. 0, or -1 as cop_spawn().
 * Mirrors Task.start/1 and Task.start_link/1. */
int cop_task_start(cop_task_f *f, const void *arg, size_t size, cop_pid *pid_r) __attribute__((warn_unused_result));
int cop_task_start_link(cop_task_f *f, const void *arg, size_t size, cop_pid *pid_r)
    __attribute__((warn_unused_result));
/* Makes a task without a process, which is over and has this value. 0, or -1 with EMSGSIZE, EAGAIN or ENOMEM.
 * Mirrors Task.completed/1. */
int cop_task_completed(uint32_t tag, const void *data, size_t len, struct cop_task *task_r)
    __attribute__((warn_unused_result));
/* Makes the specification of a child that runs f(arg) once: temporary. arg is not copied. Mirrors
 * Task.child_spec/1. */
struct cop_child cop_task_child(const char *id, cop_proc_f *f, const void *arg, size_t size);

#define COP_TASK_MS 5000            /* OTP's time-out of an await, and of a stream's task */
#define COP_TASK_BRUTAL_KILL (-2)   /* of cop_task_shutdown()'s time */

/* Waits for the value. 0, and the response until cop_response_done(); response_r may be NULL. -1: EPIPE or ESRCH (the
 * task ended without one: reason), ETIMEDOUT (it runs on; what it answers later vanishes). A value that was sent before
 * the task's end wins over that. A second await waits in vain. Mirrors Task.await/2, which would exit the caller:
 * cop_task_await_or_exit() does. */
int cop_task_await(const struct cop_task *task, int timeout_ms, struct cop_response *response_r)
    __attribute__((warn_unused_result));
void cop_task_await_or_exit(const struct cop_task *task, int timeout_ms, struct cop_response *response_r);
/* Waits for the values of n tasks, in one time-out. 0 and n responses in the tasks' order, each to be done with; or
 * -1 as soon as one ended without a value, or when the time is over, as cop_task_await(): reason_r (may be NULL), and
 * then no response is left and nothing that comes later arrives. The tasks go on. A task may be listed twice; the
 * second response is then the first's, and ends with it. -1 also with ENOMEM. Mirrors Task.await_many/2. */
int cop_task_await_many(const struct cop_task *tasks, size_t n, int timeout_ms, struct cop_response *responses_r,
    struct cop_exit *reason_r) __attribute__((warn_unused_result));

/* Waits for the value, and may be asked again. 1: response_r; 0: not yet; -1: the task ended without one: EPIPE or
 * ESRCH, and reason. After 1 or -1 the task is spent: asked again it is 0. response_r may be NULL. Mirrors
 * Task.yield/2. */
int cop_task_yield(const struct cop_task *task, int timeout_ms, struct cop_response *response_r)
    __attribute__((warn_unused_result));

enum cop_yield_on_timeout { COP_YIELD_NOTHING, COP_YIELD_KILL_TASK, COP_YIELD_IGNORE };
struct cop_yield_options {
	int32_t timeout_ms;   /* of all; 0: COP_TASK_MS. To look only: 1 */
	uint8_t on_timeout;   /* enum cop_yield_on_timeout: what becomes of those that are not done */
	size_t limit;         /* returns when so many are done, without that; 0: all */
};
struct cop_yielded {
	int8_t how;                   /* as cop_task_yield() */
	struct cop_response response; /* 1: to be done with; -1: reason */
};
/* Waits for n tasks, and fills n results in their order. Returns how many are done, or -1 with ENOMEM. options may be
 * NULL. Mirrors Task.yield_many/2. */
long cop_task_yield_many(const struct cop_task *tasks, size_t n, const struct cop_yield_options *options,
    struct cop_yielded *yielded_r) __attribute__((warn_unused_result));

/* Ends a task and waits until it is gone: unlinks, asks it by an exit signal `shutdown`, and kills it after timeout_ms
 * (COP_INFINITY; COP_TASK_BRUTAL_KILL: at once). As cop_task_yield(): 1 if there is a value after all, 0 if it ended
 * because of that, -1 otherwise, with the reason: `killed` after the time-out, `noproc` if it is spent. Mirrors
 * Task.shutdown/2. */
int cop_task_shutdown(const struct cop_task *task, int timeout_ms, struct cop_response *response_r);
/* Lets a task run on alone: neither its value nor its end, nor ours, is told to the other. As cop_task_yield() without
 * waiting. Mirrors Task.ignore/1. */
int cop_task_ignore(const struct cop_task *task, struct cop_response *response_r);

/* --- streams --- */

/* Gives the next element: 1 and *item_r of *len_r bytes, which stay until it is called again; 0: there are no more; -1:
 * the stream fails with errno. Runs in the consumer, in cop_stream_next(). */
typedef int cop_stream_input_f(void *ctx, const void **item_r, size_t *len_r);

struct cop_stream_input {
	cop_stream_input_f *next;
	void (*halt)(void *ctx); /* once, when no more is asked for; may be NULL */
	void *ctx;
};

/* Works on one element, in a task. ctx is the options'; item a copy, aligned to 16. */
typedef struct cop_result cop_stream_work_f(void *ctx, const void *item, size_t len);

enum cop_on_timeout { COP_TIMEOUT_EXIT, COP_TIMEOUT_KILL_TASK };

struct cop_stream_options {
	uint32_t max_concurrency; /* tasks at once; 0: one for each processor online */
	bool unordered;           /* results as they come */
	int32_t timeout_ms;       /* of each task, from its start; 0: COP_TASK_MS; COP_INFINITY */
	uint8_t on_timeout;       /* enum cop_on_timeout: the stream fails, or the element's result is `timeout` */
	bool zip_input_on_exit;   /* results of tasks that ended without a value have their element */
	void *ctx;                /* work's: the pointer itself; under a supervisor ctx_size bytes, copied */
	size_t ctx_size;
	const struct cop_dest *supervisor; /* of the tasks; NULL: none. The struct is copied, a name is not */
	bool nolink;              /* under a supervisor: a task's end leaves the consumer alone, and conversely */
	int32_t shutdown_ms;      /* of tasks under a supervisor, as cop_child's */
	bool pooled;              /* max_concurrency processes that each work on many elements, one after the other. A
	                             crash costs the element it was at, and is its result. Not with a supervisor */
	uint32_t batch;           /* pooled: most elements that a process is given at once; 0: as fits their pace */
};

struct cop_stream;

struct cop_stream_result {
	int8_t how;               /* 1: a value; -1: reason */
	uint32_t tag;
	const void *data;         /* of len bytes; stays until the stream's next call */
	size_t len;
	struct cop_exit reason;   /* -1: why the task ended, or `timeout`. When the stream failed: why */
	const void *input;        /* -1, and zip_input_on_exit: the element; otherwise NULL */
	size_t input_len;
};

/* Makes a stream; nothing runs, and nothing is asked for, before its first cop_stream_next(). options may be NULL. NULL
 * with EINVAL or ENOMEM. Mirrors Task.async_stream/3, Task.Supervisor.async_stream/4 and async_stream_nolink/4. */
struct cop_stream *cop_stream_open(const struct cop_stream_input *input, cop_stream_work_f *work,
    const struct cop_stream_options *options) __attribute__((warn_unused_result));
/* Gives the next result: 1; or 0 when there are no more; or -1 when the stream fails: ETIMEDOUT (a task took too long,
 * and on_timeout says so: the others run on), EOVERFLOW (`max_children`), EPIPE (its monitor process ended: reason),
 * EAGAIN or ENOMEM (no process or memory is to be had), EMSGSIZE (an element is too long), or the input's errno. All
 * but ETIMEDOUT have killed the tasks that ran. After 0 or -1 it fails with ECANCELED. A consumer that does not trap
 * exits dies of the crash of a linked task. */
int cop_stream_next(struct cop_stream *stream, struct cop_stream_result *result_r) __attribute__((warn_unused_result));
/* The same, but exits with the reason when the stream fails, as OTP's. True: a result. */
bool cop_stream_next_or_exit(struct cop_stream *stream, struct cop_stream_result *result_r);
/* Ends a stream, early or not: kills the tasks that run and waits until they are gone. Nothing of it is left, in the
 * mailbox or elsewhere. */
void cop_stream_close(struct cop_stream *stream);

/* --- Task.Supervisor: a dynamic supervisor whose children are tasks --- */

/* Makes its specification, for cop_supervisor_start_link() or as a child. max_children 0: no limit. Mirrors
 * Task.Supervisor.start_link/1 and child_spec/1. */
struct cop_supervisor cop_task_supervisor(const char *name, int32_t max_children);

struct cop_task_options {
	uint8_t restart;     /* enum cop_restart, of cop_task_supervisor_start_child(): 0 is permanent */
	int32_t shutdown_ms; /* as cop_child's */
};

/* Starts a task as a child of the supervisor, linked to the caller (nolink: not). f must be of the program or of a
 * library loaded before the node was made. options may be NULL. 0, or -1: EOVERFLOW (`max_children`), ESRCH (there is
 * no such supervisor, or the task was ended before it began), EPIPE (the supervisor ended), or as cop_send(). Mirrors
 * Task.Supervisor.async/2 and async_nolink/2. */
int cop_task_supervisor_async(struct cop_dest sup, cop_task_f *f, const void *arg, size_t size,
    const struct cop_task_options *options, struct cop_task *task_r) __attribute__((warn_unused_result));
int cop_task_supervisor_async_nolink(struct cop_dest sup, cop_task_f *f, const void *arg, size_t size,
    const struct cop_task_options *options, struct cop_task *task_r) __attribute__((warn_unused_result));
/* Starts a task whose value nobody gets. options NULL: temporary. As cop_supervisor_start_child(). Mirrors
 * Task.Supervisor.start_child/2. */
enum cop_start cop_task_supervisor_start_child(struct cop_dest sup, cop_task_f *f, const void *arg, size_t size,
    const struct cop_task_options *options, struct cop_started *started_r) __attribute__((warn_unused_result));
/* Lists the tasks that run, at most max; returns how many there are, or -1. Mirrors Task.Supervisor.children/1. */
long cop_task_supervisor_children(struct cop_dest sup, cop_pid *pids_r, size_t max);
/* Stops a task. 0, or -1 with ENOENT. Mirrors Task.Supervisor.terminate_child/2. */
int cop_task_supervisor_terminate_child(struct cop_dest sup, cop_pid pid);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
