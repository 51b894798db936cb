/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* The supervisor process, shared by supervisor*.c alone. */
#ifndef NODE_SUPERVISOR_PRIVATE_H
#define NODE_SUPERVISOR_PRIVATE_H

#include <sys/tree.h>

#include "base/text.h"
#include "ipc/loop.h"
#include "node/event.h"
#include "node/member.h"
#include "node/node.h"
#include "node/parent_link.h"
#include "node/service.h"
#include "node/sub.h"
#include "otp/sup_core.h"

struct supervisor;

/* A child of this supervisor: the owner's side of a slot of the core. */
struct kid {
	struct supervisor *sv;
	uint32_t slot;
	bool dynamic;                 /* added at run time, not in the file */
	bool removing;                /* it is to be forgotten although the file names it */
	bool dead;                    /* forgotten; freed when the turn is over */
	uint8_t parked;               /* enum proto_state of one that the core knows as never started */
	const struct spec_child *spec;
	const struct spec_image *img; /* of the node, or own_img */
	struct spec_image own_img;    /* dynamic */
	char id[TEXT_ID_MAX + 1];
	char path[SPEC_PATH_MAX];
	struct service *service;      /* a worker */
	struct sub *sub;              /* a supervisor */
	struct loop_timer timer;      /* the core's */
	pid_t last_pid;               /* of the present or last process, for events */
	pid_t pid;                    /* of the present process, in the tree of pids; 0 */
	RB_ENTRY(kid) by_pid;
	int64_t since_ms;
	uint32_t restarts;
	bool has_last_exit;
	struct cop_exit last_exit;
	struct kid *next_dead;
};

RB_HEAD(kids_by_pid, kid);

/* A call of the core on its way: who wants the answer. */
enum wanted_by { WANTED_FREE, WANTED_STEER, WANTED_RELOAD };
struct wanted {
	uint8_t by;          /* enum wanted_by */
	uint8_t verb;        /* enum proto_verb */
	bool answered;       /* the client did not want to wait */
	uint32_t request;    /* number on the steering link */
	uint32_t link_serial;/* of the steering link it came from */
	char path[SPEC_PATH_MAX];
};

/* One step of applying a new image. */
enum reload_what { RELOAD_REMOVE, RELOAD_REPLACE, RELOAD_ENABLE, RELOAD_DISABLE, RELOAD_ADD };
struct reload_step {
	uint8_t what;        /* enum reload_what */
	bool deleting;       /* REMOVE: terminated, now being deleted */
	struct kid *kid;     /* ADD: the kid, once made */
	uint32_t spec;       /* ADD: offset in the new image */
};

struct reload {
	bool active;
	uint32_t request, link_serial;
	struct reload_step *steps;
	uint32_t n, at;
	struct spec_image old_img;
	struct loop_timer later;
	char failed[256];    /* the first thing that went wrong, "" none */
};

struct supervisor {
	struct node *n;
	const struct spec_child *spec;
	char path[SPEC_PATH_MAX];  /* "/" for the top */
	struct loop loop;
	struct sup *core;
	struct group_base groups;
	struct kid **kids;         /* by slot; NULL */
	uint32_t kids_cap;
	struct kids_by_pid pids;
	struct kid *graveyard;
	pid_t parent;
	int64_t since_ms;          /* start of this process */

	struct event_pipe events;
	struct loop_source event_src, signal_src, parent_src;
	int signal_fd;
	int parent_link;
	bool inited, limit;
	struct loop_timer started_timer;
	uint32_t deep_slot;        /* a nested supervisor that said why it ended; SUP_NONE */
	struct plink_msg deep;     /* what it said */
	char cause_path[SPEC_PATH_MAX]; /* the child whose failed start ends init, or that was one restart too many */

	struct sup_event *queue;   /* events that came while actions were taken */
	uint32_t queue_cap, queue_head, queue_n;
	bool acting;
	char *list;                /* scratch for lists of paths */
	size_t list_cap;
	size_t paths_len;          /* of all kids, with NULs */

	/* steering (supervisor_steer.c) */
	int steer_fd;              /* -1: none */
	uint32_t steer_serial;
	int64_t steer_since_ms;
	struct loop_source steer_src;
	struct loop_pause steer_pause; /* no descriptors for what was sent */
	struct loop_timer hello_timer;
	struct wanted wanted[SUP_CALLS_MAX];
	uint64_t calls;            /* for call names */
	struct {
		bool active;
		uint32_t request;
		uint32_t slot;     /* next to send */
		bool self_sent;
	} dump;                    /* a STATUS under way */
	struct { uint32_t request; uint8_t status; char text[512]; } done[64]; /* DONEs not yet sent */
	uint32_t done_n;
	struct reload reload;
};

/* --- supervisor.c --- */
/* Feeds the core; carries out what it decides. May be called from anywhere. */
void sv_feed(struct supervisor *sv, const struct sup_event *ev);
void sv_event(struct supervisor *sv, struct event *e);
/* Writes events that are held: before anybody is told something that leads to other events. */
void sv_events_out(struct supervisor *sv);
void sv_note(struct supervisor *sv, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int64_t sv_now(struct supervisor *sv);
/* Makes room for the events of all children and for their paths. 0 or -1. */
int sv_reserve(struct supervisor *sv);

/* --- supervisor_kid.c --- */
/* Makes a child behind `after` (sup_last() for the end) from its specification; does not start it.
 * own_img: a dynamic child's, taken over on success. NULL with errno (EEXIST: the id is taken). */
struct kid *kid_add(struct supervisor *sv, const struct spec_image *img, const struct spec_child *spec,
    uint32_t after, struct spec_image *own_img);
/* The core forgot it. */
void kid_forgotten(struct kid *k);
void kid_bury(struct kid *k);
uint32_t kid_place(struct supervisor *sv, const struct spec_child *spec);
void kid_free_dead(struct supervisor *sv);
/* At the end: ends what kill_group = false has left. */
void kids_fini(struct supervisor *sv);
struct kid *kid_find(struct supervisor *sv, const char *id);
void kid_start(struct kid *k);
void kid_stop(struct kid *k);
void kid_kill(struct kid *k);
void kid_set_timer(struct kid *k, int64_t at_ms);
/* d: what else is known of its end. */
bool kid_reaped(struct supervisor *sv, pid_t pid, int wstatus, const struct member_death *d);
void kids_orphan_reaped(struct supervisor *sv);
bool kids_living(void *ctx, const char *invocation, pid_t session);
int kid_pid_cmp(struct kid *a, struct kid *b);
RB_PROTOTYPE(kids_by_pid, kid, by_pid, kid_pid_cmp)

/* --- supervisor_steer.c --- */
void steer_hello(struct supervisor *sv);
/* A call that some client or the reload waits for was answered. */
void steer_reply(struct supervisor *sv, const struct sup_action *a);
/* Feeds a call in somebody's name. -1: too many are waiting. */
bool steer_call_room(const struct supervisor *sv);
int steer_call(struct supervisor *sv, struct kid *k, enum sup_op op, bool interrupt, const struct wanted *by);
void steer_done(struct supervisor *sv, uint32_t request, uint8_t status, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void kid_describe(struct kid *k, struct proto_child *c, uint32_t order);

/* --- supervisor_reload.c --- */
void reload_begin(struct supervisor *sv, uint32_t request, int *fds, size_t n_fds);
void reload_replied(struct supervisor *sv, const struct sup_action *a);

#endif
