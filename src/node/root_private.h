/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* Root, shared by root*.c alone. */
#ifndef NODE_ROOT_PRIVATE_H
#define NODE_ROOT_PRIVATE_H

#include <signal.h>

#include "ipc/loop.h"
#include "node/event.h"
#include "node/node.h"
#include "node/sub.h"
#include "otp/sup_intensity.h"

/* log and control: processes beside the tree, replaced whenever they die. */
struct aside {
	const char *what;
	pid_t pid;                /* 0: none */
	int64_t since_ms;
	struct loop_timer again;
	uint32_t wait_ms;         /* before the next start, if it died young */
	bool wanted;
};

#define ROOT_KEEP_MSG 8192    /* bytes of one kept registration, a page or two of a mapping */

/* A kept log pipe. The messages themselves are in a mapping that is touched page by page. */
struct kept {
	int fd, ready_fd;         /* -1: free slot; -1: none */
	uint16_t len;             /* bytes of the message */
	bool unsent;              /* log has not been told yet */
};

enum root_state { ROOT_ST_STARTING, ROOT_ST_RUNNING, ROOT_ST_STOPPING, ROOT_ST_FINISHING };

#define ROOT_PAUSE_MS 100

struct root {
	struct node node;
	struct run_options opt;
	struct loop loop;
	uint8_t state;            /* enum root_state */
	char why[64];             /* of the shutdown */
	bool kill_now;
	uint32_t hups, hups_done; /* so many came, and so many control has dealt with */
	unsigned to_tell;         /* ROOT_TELL_*: what control has not heard yet */
	struct loop_timer tell_timer;
	int status;               /* of `coppice run` */

	struct sub top;
	struct sup_intensity intensity; /* of the top supervisor's own restarts after a kill */
	struct loop_source signal_src, keep_src, log_src, ctl_src, event_src;
	struct loop_pause keep_pause, ctl_pause; /* no descriptors for what was sent */
	int signal_fd;
	struct event_pipe events;
	char socket_path[NODE_PATH_MAX];
	ino_t socket_ino;
	char group_name[128];

	struct aside log, control;
	struct kept *kept;
	uint8_t *kept_msgs;
	uint32_t kept_cap, kept_used; /* from kept_used on, nothing was ever touched or all is free */
	uint32_t kept_free;       /* none below is free */
	struct loop_timer finish_timer, top_timer;
};

/* --- root_channels.c --- */
int root_channels_open(struct root *r);
/* A new pair for a process that is being replaced: what was said to the dead one is void. */
int root_channel_renew(struct root *r, enum node_fd a, enum node_fd b, struct loop_source *src,
    loop_source_f *ready);

/* --- root_keep.c --- */
int root_keep_open(struct root *r);
void root_keep_ready(struct loop_source *src, uint32_t events);   /* from supervisors */
void root_log_ready(struct loop_source *src, uint32_t events);    /* from log */
_Noreturn void root_log_child(struct root *r);                    /* in the new log process */
void root_log_say(struct root *r, uint8_t kind);                  /* KEEP_REOPEN, KEEP_FINISH */

/* --- root_aside.c --- */
void root_aside_start(struct root *r, struct aside *a);
bool root_aside_reaped(struct root *r, pid_t pid, int wstatus);
void root_aside_end(struct root *r, struct aside *a, int sig);
void root_control_ready(struct loop_source *src, uint32_t events); /* from control */
enum { ROOT_TELL_LISTEN = 1, ROOT_TELL_STATE = 2, ROOT_TELL_RELOAD = 4 };
void root_control_tell(struct root *r, unsigned what);

/* --- root_signal.c --- */
int root_signals_open(struct root *r);
void root_signal_ready(struct loop_source *src, uint32_t events);

/* --- root.c --- */
void root_event(struct root *r, struct event *e);
void root_note(struct root *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void root_shutdown(struct root *r, const char *why);
void root_reap(struct root *r);
void root_notify(const char *text);

#endif
