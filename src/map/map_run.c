/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The runner: starts an item when there is a slot, a place in the window and room in the output; takes up how each
 * ended; ends when all were delivered. Everything happens between two waits of one loop. Runs in a process and
 * a session of its own, with all signals blocked and read from a descriptor; it ends whenever the guard does.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/diag.h"
#include "base/fds.h"
#include "base/text.h"
#include "map/map_private.h"

#define LOOK_MS 3      /* an item that runs longer is worth watching its pipes */
#define BREATH_MS 20   /* until a process is tried for again, doubled each time */
#define BREATHS 9      /* so often, with nothing running that could end and make room: 10 s */

void *map_grow(void *p, size_t n, size_t size)
{
	p = reallocarray(p, n > 0 ? n : 1, size);
	if (!p)
		diag_fatal(MAP_BROKEN, "map: out of memory");
	return p;
}

/* --- items that are there --- */

static struct item *item_get(struct run *r)
{
	struct item *it = TAILQ_FIRST(&r->spare);

	if (it) {
		TAILQ_REMOVE(&r->spare, it, live);
		return it;
	}
	it = map_grow(NULL, 1, sizeof *it);
	memset(it, 0, sizeof *it);
	it->run = r;
	it->chunk = it->out[0].fd = it->out[1].fd = it->out[0].src.fd = it->out[1].src.fd = -1;
	it->out[0].run = it->out[1].run = r;
	return it;
}

static void item_put(struct run *r, struct item *it)
{
	capture_drop(r, &it->out[0]);
	capture_drop(r, &it->out[1]);
	input_give_back(&r->in, &it->chunk);
	it->len = it->n_args = 0;
	if (it->cap > MAP_PIECE) {
		free(it->text);
		it->text = NULL;
		it->cap = 0;
	}
	it->bad = NULL;
	it->attempt = it->number = 0;
	it->pid = 0;
	it->start_us = it->start_ns = it->ran_ns = 0;
	it->exit = it->sig = it->err = 0;
	it->timed_out = it->killing = false;
	TAILQ_INSERT_HEAD(&r->spare, it, live);
}

/* Neither delivered nor logged. */
static void item_cut(struct run *r, struct item *it)
{
	TAILQ_REMOVE(&r->live, it, live);
	r->n_live--;
	item_put(r, it);
}

void run_delivered(struct run *r, struct item *it)
{
	if (r->o->unordered || r->o->line_buffer)
		TAILQ_REMOVE(&r->ended, it, queue);
	item_cut(r, it);
}

/* --- ending everything --- */

static void force(struct loop_timer *t)
{
	struct run *r = t->ctx;

	slots_signal(r, SIGKILL);
}

/* Attempts that are still to come do not come. */
static void cut_waiting(struct run *r)
{
	struct item *it, *next;

	for (it = TAILQ_FIRST(&r->live); it; it = next) {
		next = TAILQ_NEXT(it, live);
		if (it->state == ITEM_WAITING || it->state == ITEM_FRESH) {
			if (it->state == ITEM_WAITING && !it->timer.armed)
				TAILQ_REMOVE(&r->again, it, queue);
			else if (it->state == ITEM_WAITING)
				r->n_waiting--;
			loop_timer_cancel(&r->loop, &it->timer);
			if (it == r->ahead)
				r->ahead = NULL;
			item_cut(r, it);
		}
	}
}

static void stop_starting(struct run *r)
{
	r->stopping = true;
	cut_waiting(r);
}

/* Ends those that run: asked first, unless there is no time for that. */
static void kill_all(struct run *r, bool at_once)
{
	stop_starting(r);
	r->killing = true;
	slots_signal(r, at_once ? SIGKILL : SIGTERM);
	if (!at_once) {
		slots_signal(r, SIGCONT); /* one that is stopped hears TERM */
		loop_timer_set(&r->loop, &r->force, clock_mono_ms() + MAP_GRACE_MS, force, r);
	}
}

void run_break(struct run *r, int status)
{
	if (r->status == 0)
		r->status = status;
	kill_all(r, status == MAP_CLOSED);
}

/* --- items that end --- */

static void due_again(struct loop_timer *t)
{
	struct item *it = t->ctx;
	struct run *r = it->run;

	r->n_waiting--;
	TAILQ_INSERT_TAIL(&r->again, it, queue);
	run_pump(r);
}

static void wait_for_retry(struct run *r, struct item *it, int64_t ms)
{
	capture_drop(r, &it->out[0]);
	capture_drop(r, &it->out[1]);
	it->state = ITEM_WAITING;
	r->n_waiting++;
	loop_timer_set(&r->loop, &it->timer, clock_mono_ms() + ms, due_again, it);
}

static void halt_if_due(struct run *r)
{
	if (r->killing || !policy_halts(r))
		return;
	if (r->o->halt == MAP_HALT_NOW)
		kill_all(r, false);
	else if (!r->stopping)
		stop_starting(r);
}

/* For good. */
static void end_item(struct run *r, struct item *it)
{
	it->state = ITEM_DONE;
	r->ended_n++;
	r->failed_n += item_failed(it);
	if (r->o->unordered || r->o->line_buffer)
		TAILQ_INSERT_TAIL(&r->ended, it, queue);
	halt_if_due(r);
}

static void say_exec(const struct run *r, const struct item *it)
{
	char esc[256];
	const char *name = r->o->cmd[0];

	errno = it->err;
	diag_error_errno("map: item %" PRIu64 ": unable to execute %s", it->seq,
	    text_escape(name, strlen(name), esc, sizeof esc));
}

void run_ended(struct run *r, struct item *it)
{
	int64_t ms;

	loop_timer_cancel(&r->loop, &it->timer);
	capture_finish(r, &it->out[0]);
	capture_finish(r, &it->out[1]);
	if (r->killing) {
		item_cut(r, it);
		return;
	}
	if (it->err != 0)
		say_exec(r, it);
	ms = policy_retry(r, it);
	if (ms >= 0) {
		wait_for_retry(r, it, ms);
		return;
	}
	if (it->timed_out && r->o->timeout_exit) {
		diag_error("map: item %" PRIu64 " timed out", it->seq);
		r->ended_n++;
		r->failed_n++;
		item_cut(r, it);
		run_break(r, MAP_TIMED_OUT);
		return;
	}
	end_item(r, it);
}

/* --- items that start --- */

static void time_over(struct loop_timer *t)
{
	struct item *it = t->ctx;

	if (!it->slot)
		return;
	if (it->killing) {
		slot_signal(it->slot, SIGKILL);
		return;
	}
	it->timed_out = it->killing = true;
	slot_signal(it->slot, SIGTERM);
	slot_signal(it->slot, SIGCONT);
	loop_timer_set(&it->run->loop, t, clock_mono_ms() + MAP_GRACE_MS, time_over, it);
}

static void look(struct loop_timer *t)
{
	struct run *r = t->ctx;
	unsigned i;

	for (i = 0; i < r->o->jobs; i++) {
		struct item *it = r->slots[i].item;

		if (it) {
			capture_watch(r, &it->out[0]);
			capture_watch(r, &it->out[1]);
		}
	}
}

/* One timer for all: those that were started a moment ago are watched a little early. */
static void started(struct run *r, struct item *it)
{
	it->state = ITEM_RUNNING;
	r->breaths = 0;
	if (r->o->timeout_ms >= 0)
		loop_timer_set(&r->loop, &it->timer, clock_mono_ms() + r->o->timeout_ms, time_over, it);
	if (r->o->pipe || r->o->line_buffer) {
		capture_watch(r, &it->out[0]);
		capture_watch(r, &it->out[1]);
	} else if (!r->look.armed) {
		loop_timer_set(&r->loop, &r->look, clock_mono_ms() + LOOK_MS, look, r);
	}
}

static void breathed(struct loop_timer *t)
{
	run_pump(t->ctx);
}

/* No process or descriptor: it is tried again when an item has ended, or after a while. */
static void take_breath(struct run *r, struct item *it)
{
	r->ahead = it;
	if (r->running == 0)
		group_forget_children(); /* perhaps the one descriptor that is missing */
	if (r->running == 0 && r->breaths >= BREATHS) {
		diag_error_errno("map: unable to start item %" PRIu64, it->seq);
		run_break(r, MAP_BROKEN);
		return;
	}
	loop_timer_set(&r->loop, &r->breath, clock_mono_ms() + ((int64_t)BREATH_MS << r->breaths), breathed, r);
	if (r->breaths < BREATHS)
		r->breaths++;
}

static void dry_run(struct run *r, struct item *it)
{
	static struct strings words;
	struct capture *c = &it->out[0];

	it->number = 1;
	words_expand(&r->words, it, 1, &words);
	c->cap = 4 * (words.len + words.n) + 16;
	c->mem = map_grow(c->mem, c->cap, 1);
	c->len = words_quote(&words, false, c->mem, c->cap - 1);
	c->mem[c->len++] = '\n';
	c->total = c->len;
	r->kept += c->len;
}

static void say_bad(const struct item *it)
{
	diag_error("map: item %" PRIu64 ": %s", it->seq, it->bad);
}

/* False: it could not be started now. */
static bool start(struct run *r, struct item *it)
{
	it->attempt++;
	if (it->bad || r->o->dry_run) {
		if (it->bad)
			say_bad(it);
		else
			dry_run(r, it);
		it->exit = it->bad ? 126 : 0;
		end_item(r, it);
		return true;
	}
	if (slot_launch(r, it) < 0) {
		it->attempt--;
		take_breath(r, it);
		return false;
	}
	started(r, it);
	return true;
}

static void input_over(struct run *r)
{
	r->input_ended = true;
	if (r->in.err == 0)
		return;
	errno = r->in.err;
	if (r->in.err == EMSGSIZE)
		diag_error("map: a record of the input is too long");
	else
		diag_error_errno("map: unable to read the input");
	r->status = MAP_BROKEN;
	stop_starting(r);
}

/* The next item that is to be run; NULL: there is none now. */
static struct item *fetch(struct run *r)
{
	struct item *it = TAILQ_FIRST(&r->again);

	if (it) {
		TAILQ_REMOVE(&r->again, it, queue);
		return it;
	}
	for (;;) {
		it = r->partial ? r->partial : item_get(r);
		r->partial = NULL;
		switch (input_next(&r->in, it)) {
		case INPUT_ITEM:
			it->seq = ++r->seq;
			if (!joblog_has(&r->log, it->seq))
				return it;
			r->skipped++;
			item_put(r, it);
			break;
		case INPUT_WAIT:
			r->partial = it;
			return NULL;
		case INPUT_END:
			item_put(r, it);
			input_over(r);
			return NULL;
		}
	}
}

static bool may_start(const struct run *r)
{
	return !r->stopping && !r->suspended && !SLIST_EMPTY(&r->free) && !r->sink[0].blocked && !r->sink[1].blocked;
}

static bool may_read(const struct run *r)
{
	return !r->input_ended && r->n_live < r->o->jobs + (size_t)MAP_WINDOW;
}

static void start_items(struct run *r)
{
	struct item *it;

	while (may_start(r) && !r->breath.armed) {
		it = r->ahead;
		r->ahead = NULL;
		if (!it) {
			if (TAILQ_EMPTY(&r->again) && !may_read(r))
				return;
			it = fetch(r);
			if (!it)
				return;
			if (it->state != ITEM_WAITING) {
				TAILQ_INSERT_TAIL(&r->live, it, live);
				r->n_live++;
			}
			it->state = ITEM_FRESH;
		}
		if (!start(r, it))
			return;
		deliver_pump(r);
	}
}

/* --- the loop --- */

static bool is_over(const struct run *r)
{
	if (r->running > 0)
		return false;
	if (r->closed)
		return true;
	if (!r->stopping && (!r->input_ended || r->n_waiting > 0 || !TAILQ_EMPTY(&r->again) || r->ahead))
		return false;
	return TAILQ_EMPTY(&r->live) && sink_pending(&r->sink[0]) == 0 && sink_pending(&r->sink[1]) == 0;
}

/* Held up for lack of room, all that run, and nothing that could be delivered would make any. */
static void resume_captures(struct run *r)
{
	unsigned i, held = 0;

	for (i = 0; i < r->o->jobs; i++) {
		struct item *it = r->slots[i].item;

		if (!it)
			continue;
		capture_resume(r, &it->out[0]);
		capture_resume(r, &it->out[1]);
		held += it->out[0].held || it->out[1].held;
	}
	if (held > 0 && held == r->running && r->spill.full && !r->killing && !r->delivery.item) {
		diag_error("map: there is no room for the output of the items that run");
		run_break(r, MAP_BROKEN);
	}
}

static void check_sinks(struct run *r)
{
	int i;

	for (i = 0; i < 2; i++) {
		if (r->sink[i].err == 0 || r->closed)
			continue;
		if (r->sink[i].err != EPIPE) {
			errno = r->sink[i].err;
			diag_error_errno("map: unable to write standard %s", i == 0 ? "output" : "error");
			r->status = MAP_BROKEN;
		}
		r->closed = true;
		run_break(r, MAP_CLOSED);
	}
}

void run_pump(struct run *r)
{
	if (r->pumping) {
		r->pump_again = true;
		return;
	}
	r->pumping = true;
	do {
		r->pump_again = false;
		deliver_pump(r);
		check_sinks(r);
		start_items(r);
		deliver_pump(r);
		check_sinks(r);
	} while (r->pump_again);
	r->pumping = false;
	if (r->spill.full || r->o->line_buffer)
		resume_captures(r);
	if (is_over(r))
		r->loop.stop = true;
}

static void pump(void *ctx)
{
	run_pump(ctx);
}

/* The runner itself does not stop: it must hear of the guard's death. */
static void suspend(struct run *r, bool on)
{
	r->suspended = on;
	slots_signal(r, !on ? SIGCONT : r->o->tells_stop ? SIGTSTP : SIGSTOP);
}

static void interrupted(struct run *r, int sig)
{
	bool again = r->signal != 0;

	if (!again)
		r->signal = sig;
	if (sig == SIGHUP || sig == SIGQUIT || again) {
		kill_all(r, true);
		return;
	}
	if (r->running > 0)
		diag_warn("map: waiting for %u item%s; again: kill %s", r->running, r->running > 1 ? "s" : "",
		    r->running > 1 ? "them" : "it");
	stop_starting(r);
}

static void signalled(struct loop_source *src, uint32_t events)
{
	struct run *r = src->ctx;
	struct signalfd_siginfo si[8];
	ssize_t n = read(r->signal_fd, si, sizeof si), i;

	(void)events;
	for (i = 0; n > 0 && i < n / (ssize_t)sizeof si[0]; i++) {
		if (si[i].ssi_signo == SIGCHLD)
			slots_reap(r);
		else if (si[i].ssi_signo == SIGTSTP || si[i].ssi_signo == SIGCONT)
			suspend(r, si[i].ssi_signo == SIGTSTP);
		else
			interrupted(r, (int)si[i].ssi_signo);
	}
	if (r->breath.armed)
		loop_timer_cancel(&r->loop, &r->breath); /* somebody ended: perhaps there is room */
	run_pump(r);
}

static int open_signals(struct run *r)
{
	static const int mine[] = { SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT };
	sigset_t set;
	size_t i;

	sigemptyset(&set);
	for (i = 0; i < sizeof mine / sizeof mine[0]; i++)
		sigaddset(&set, mine[i]);
	r->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return r->signal_fd < 0 ? -1 : loop_attach(&r->loop, &r->signals, r->signal_fd, EPOLLIN, signalled, r);
}

/* A program whose name does not depend on the item is looked for once, and not found before anything is read. */
static int find_program(struct run *r)
{
	static char path[4096];
	char esc[256];
	int err;

	if (!r->words.fixed || r->o->dry_run)
		return 0;
	err = words_find(r->o->cmd[0], path, sizeof path);
	if (err == 0) {
		r->path = path;
		return 0;
	}
	errno = err;
	diag_error_errno("map: unable to execute %s",
	    text_escape(r->o->cmd[0], strlen(r->o->cmd[0]), esc, sizeof esc));
	return -1;
}

static int prepare(struct run *r)
{
	TAILQ_INIT(&r->live);
	TAILQ_INIT(&r->ended);
	TAILQ_INIT(&r->again);
	TAILQ_INIT(&r->spare);
	words_init(&r->words, r->o);
	if (find_program(r) < 0)
		return -1;
	r->scratch = map_grow(NULL, MAP_PIECE, 1);
	if (loop_open(&r->loop) < 0 || open_signals(r) < 0 || slots_init(r) < 0 ||
	    input_open(&r->in, r->o, &r->loop, pump, r) < 0) {
		diag_error_errno("map: unable to begin");
		return -1;
	}
	sink_open(&r->sink[0], STDOUT_FILENO, &r->loop, pump, r);
	sink_open(&r->sink[1], STDERR_FILENO, &r->loop, pump, r);
	r->sink[0].ledger = r->sink[1].ledger = r->ledger;
	r->sink[1].stream = 1;
	return 0;
}

int runner_main(const struct map_options *o, struct ledger *ledger, struct joblog *log, const sigset_t *mask,
    pid_t guard)
{
	static struct run run;
	struct run *r = &run;

	*r = (struct run){ .o = o, .ledger = ledger, .log = *log, .mask = *mask, .guard = guard, .self = getpid(),
		.spill.fd = -1, .signal_fd = -1, .null_fd = -1 };
	if (o->tells_stop)
		sigaddset(&r->mask, SIGTSTP); /* waits until who has just begun can pass it on */
	if (prepare(r) < 0)
		return MAP_BROKEN;
	progress_start(r);
	run_pump(r);
	while (!r->loop.stop)
		if (loop_turn(&r->loop, -1) < 0)
			diag_panic("unable to wait for events: errno %d", errno);
	progress_end(r);
	slots_end();
	sink_close(&r->sink[0]);
	sink_close(&r->sink[1]);
	input_close(&r->in);
	slots_fini(r);
	return policy_status(r);
}
