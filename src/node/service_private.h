/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The inside of a service, shared by the files that make one up:
 *   service.c        making, looking, orders
 *   service_start.c  descriptors, fork, what the status pipe says, the start's end
 *   service_end.c    death, reasons, waiting for what it left behind
 *   service_log.c    the log pipe
 *   service_watch.c  the watchdog
 *   service_server.c modules, and companions of JSON servers
 *   ready_*.c        when a start is complete
 *   notify_*.c       sd_notify
 */
#ifndef NODE_SERVICE_PRIVATE_H
#define NODE_SERVICE_PRIVATE_H

#include "node/exec_child.h"
#include "node/member.h"
#include "node/service.h"

#define SERVICE_PROBES 2          /* connections tried at a time */
#define SERVICE_STATUS_MAX 256    /* of the status text, with NUL */
#define SERVICE_ABORT_MS 2000     /* from the watchdog's ABRT to KILL; from a soft end of orphans to a hard one */
#define NOTIFY_NAME_MAX 64

enum service_state {
	SERVICE_IDLE,
	SERVICE_STARTING, /* clearing what is left of earlier, or forked and not yet ready */
	SERVICE_RUNNING,
	SERVICE_DRAINING, /* the main process is reaped, others of its group are left */
	SERVICE_FAILING,  /* the start has failed: being killed, or reaped and draining */
};

/* What the file of ready = "file:PATH" was before the start. */
struct service_file {
	bool there;
	uint64_t dev, ino, size;
	int64_t mtime_ns, ctime_ns;
};

struct service {
	struct node *node;
	struct loop *loop;
	struct group_base cg;
	const struct spec_image *img;
	const struct spec_child *spec;
	const struct service_ops *ops;
	void *ctx;

	enum service_state state;
	struct group group;
	pid_t pid;              /* main process; 0 */
	bool reaped;            /* it is dead and its number is free: only being judged */
	pid_t last_pid;         /* of the present or last incarnation; 0: there was none */
	int64_t since_ms;       /* its start */
	uint64_t ran_ms;        /* set when it was reaped */
	struct cop_exit reason; /* FAILING: why; after the death: why */

	bool asked;             /* an order to end came while it lived */
	bool stop_sent, kill_sent;
	bool watchdog_fired;
	bool about_to_exec;     /* the status pipe said so */
	bool executed;          /* its end of file came after that */
	bool probed;            /* what `ready` asks for has happened */
	bool clearing;          /* STARTING, without a process: leftovers must go first */
	bool soft;              /* DRAINING: leftovers were only asked so far */
	bool drain_noted;
	bool leaving;           /* is being destroyed: its leftovers are nobody's */
	uint8_t mode;           /* enum spec_ready of this start */
	uint8_t stop_signal;    /* that was sent */
	uid_t uid;              /* the child's */

	/* a server */
	uint64_t member;        /* a module's process, or the companion, in the node's memory */
	bool ignored;           /* init said `ignore` */
	bool has_known;         /* why it ended is known otherwise than by its status: */
	struct cop_exit known;
	pid_t bridge;           /* companion; 0 */
	int bridge_order;       /* to it; -1 */
	bool bridge_first;      /* it died before the program */
	struct loop_timer farewell;

	/* a start */
	struct loop_source status;                /* status pipe */
	struct loop_source ready;                 /* ready = "fd:N" */
	struct loop_source probe[SERVICE_PROBES]; /* connections that are being tried */
	struct loop_timer probe_timer;
	uint32_t probe_ms;                        /* to the next try */
	struct service_file file;
	struct loop_timer deadline;               /* of the start; then of the watchdog */

	/* sd_notify */
	struct loop_source notify;
	char notify_name[NOTIFY_NAME_MAX];
	char status_text[SERVICE_STATUS_MAX];
	uint32_t watchdog_ms;   /* of this incarnation; 0: off */

	/* stopping and draining */
	int64_t stop_at_ms;     /* deadline as the supervisor knows it, without extension */
	int64_t extension_ms;
	struct loop_source events;                /* cgroup.events */
	struct loop_timer drain;
	uint32_t drain_ms;      /* to the next look */
	int64_t drain_since_ms; /* killed for the first time */
	int64_t drain_hard_ms;  /* when asking ends */

	/* log */
	int log_w;              /* write end; -1: none yet */
	int log_r;              /* read end until it is handed over; -1 */
	int log_ready_w;        /* the same for what the log process writes to us; -1 */
	uint64_t log_key;       /* of the log settings the pipe was made for */
	struct loop_source log_ready; /* says which process wrote what ready = "log:" waits for */
	struct loop_timer keep; /* to hand over again */
	uint32_t keep_ms;
	struct service_marks exit_mark; /* of the last life, while it is not in the log */
	bool exit_mark_taken;           /* the process that is being launched writes it */
	struct loop_timer mark_timer;   /* there was no room for it: to try again */
	uint32_t mark_ms;
	uint32_t marks_lost;
};

static inline const struct spec_worker *service_worker(const struct service *s)
{
	return &s->spec->worker;
}

/* --- service_start.c --- */
/* Leftovers are gone: forks. */
void service_spawn(struct service *s);
/* Something that `ready` waits for has happened. */
void service_check_ready(struct service *s);
/* Takes in what the child has said so far and was not read yet: before its death is judged. */
void service_catch_up(struct service *s);
/* Closes what only a start needs. */
void service_end_start(struct service *s);
void service_start_timeout_set(struct service *s, int64_t at_ms);

/* --- service_end.c --- */
/* The start has failed although the process lives: kills everything; start_failed() will follow. */
void service_fail(struct service *s, struct cop_exit reason);
/* Waits until the group is empty, then goes on with the state's end. */
void service_drain_begin(struct service *s);

/* --- service_log.c --- */
/* Where its output goes; "" if it is not kept. Static memory. */
const char *service_log_where(const struct service *s);
/* Makes the log pipe if one is needed and there is none for these settings. 0 or -1 with errno. */
int service_log_prepare(struct service *s);
void service_log_close(struct service *s);
/* The process is gone: its record goes out with service_log_flush(), or with the next process's. */
void service_log_exit(struct service *s);
void service_log_flush(struct service *s);
/* There is a new process, or not, and this became of the exit record. */
void service_log_launched(struct service *s, bool started, enum exec_marks marks);
/* What the launched process says that became of its records, and of the exit record if it took it. */
void service_log_marked(struct service *s, enum exec_marked marked);

/* --- service_watch.c --- */
void service_watch_start(struct service *s);
void service_watch_alive(struct service *s);
void service_watch_fire(struct service *s);
void service_watch_set(struct service *s, uint64_t usec);
/* Moves the deadline that is running (start, stop or watchdog) to at least usec from now. */
void service_watch_extend(struct service *s, uint64_t usec);

/* --- ready_probe.c --- */
/* Notes what must be known before the fork. */
void ready_before(struct service *s);
/* The program runs: begins to look. */
void ready_begin(struct service *s);
void ready_end(struct service *s);
/* The read end of ready = "fd:N". */
int ready_fd_open(struct service *s, int *write_end_r);
void ready_fd_look(struct service *s);

/* --- notify_socket.c --- */
/* Opens the socket of one incarnation. 0 or -1 with errno. */
int notify_open(struct service *s);
void notify_close(struct service *s);
/* Takes in what waits, at most so many datagrams. */
void notify_look(struct service *s, int max);

/* --- notify_parse.c --- */
void notify_parse(struct service *s, const char *msg, size_t len);

/* --- service_server.c --- */
bool service_is_module(const struct service *s);
/* The pipe on which a module's init answers. 0 or -1. */
int service_ack_open(struct service *s, int *write_end_r);
void service_ack_look(struct service *s);
void service_module_stop(struct service *s);
/* Makes the companion, and the program's standard input and output. 0, or -1 with errno of *step_r. */
int service_bridge_start(struct service *s, struct exec_plan *p, enum exec_step *step_r);
/* The program is dead and s->reason says why: the companion ends too. service_drain_begin() follows then. */
void service_bridge_end(struct service *s);

/* --- service.c --- */
/* Signals the main process and says so; not once it is reaped. */
void service_send(struct service *s, int sig, const char *how);
/* Stops watching a descriptor and closes it. */
void service_close_source(struct service *s, struct loop_source *src);

#endif
