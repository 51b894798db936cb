/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * A stream's pool: processes that each work on many elements. Elements go to a process by the batch, in one message,
 * and the values come back in one; so an element costs none. How many make a batch follows from how long the last ones
 * took: slow work goes one by one.
 *
 * A process that dies says by the block of values how far it came: what is done counts, the element it was at has its
 * death as result, and what it had not begun goes to another, from the copy of the batch that the consumer keeps.
 *
 * Runs in the consumer. Owns the batches, in private memory, and the blocks of values that it was given.
 */
#include <coppice/task.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "otp/task_batch.h"
#include "otp/task_stream.h"

#define BATCH_NS 200000      /* what a batch should take */
#define DEEP_FROM 16u        /* batches of so many are worth having the next one ready */
#define DEATHS_MAX 3         /* in a row, of processes that began nothing */
#define SLACK_NS 8000000     /* of the coarse clock */

/* A block of values: of the elements from `from` to before `upto`. */
struct run {
	struct run *next;
	struct seg_node *node;
	uint32_t from, upto;
};

/* What an element's result is, if it is not in a block. */
struct extra {
	struct extra *next;
	uint32_t i;
	struct seg_node *value;  /* NULL: reason */
	struct cop_exit reason;
};

struct batch {
	struct batch *next;      /* in the list that it is in */
	struct batch *later;     /* ordered: the one that was filled after it */
	struct work *work;
	size_t room, len;        /* of that */
	uint32_t n, given;
	bool done;
	struct run *runs;        /* the last one first */
	struct extra *extras;
	int deaths;
};

struct list {
	struct batch *first, **last;
};

struct worker {
	uint64_t pid;            /* 0: none */
	bool asked;              /* for one */
	bool timed_out;
	struct list work;        /* the first is the one it is at */
	uint32_t n_work;
	uint32_t begun;          /* the node of its block; 0 */
	int64_t since_ns;        /* when that one was the first */
};

struct stream_pool {
	struct worker *w;
	uint32_t n_workers, n_live;
	uint32_t target;         /* elements of a batch */
	uint32_t n_batches, max_batches;
	struct list again;       /* left by one that died */
	struct list ready;       /* to be given out; in an ordered stream, those in order, done or not */
	struct list unused;
	const void *item;        /* asked for, but there was no room */
	size_t item_len;
	bool has_item;
	int refused;             /* errno: no more processes are to be had */
};

static void list_init(struct list *l)
{
	l->first = NULL;
	l->last = &l->first;
}

static void list_put(struct list *l, struct batch *b)
{
	b->next = NULL;
	*l->last = b;
	l->last = &b->next;
}

static struct batch *list_take(struct list *l)
{
	struct batch *b = l->first;

	if (!b)
		return NULL;
	l->first = b->next;
	if (!l->first)
		l->last = &l->first;
	return b;
}

/* The block that a process is filling; NULL: it has begun none, or died before it was ours. */
static struct seg_node *begun(const struct worker *w)
{
	struct seg_node *n = w->begun ? seg_node(&proc.seg, w->begun) : NULL;

	if (!n || __atomic_load_n(&n->to, __ATOMIC_ACQUIRE) != proc.id || atomic_load(&n->state) != SEG_BUSY ||
	    seg_node_room(&proc.seg, n) < BLOCK_BYTES)
		return NULL;
	return n;
}

static int open_pool(struct cop_stream *s)
{
	struct stream_pool *p = calloc(1, sizeof *p);
	uint32_t i;

	if (!p)
		return -1;
	p->n_workers = s->max;
	p->w = calloc(p->n_workers, sizeof *p->w);
	if (!p->w) {
		free(p);
		return -1;
	}
	for (i = 0; i < p->n_workers; i++)
		list_init(&p->w[i].work);
	list_init(&p->again);
	list_init(&p->ready);
	list_init(&p->unused);
	p->target = 1;
	p->max_batches = p->n_workers < UINT32_MAX / 4 ? 2 * p->n_workers + 2 : UINT32_MAX / 2;
	s->pool = p;
	return 0;
}

static void free_extras(struct batch *b)
{
	struct extra *x;

	while ((x = b->extras)) {
		b->extras = x->next;
		if (x->value)
			proc_done(x->value);
		free(x);
	}
}

static void free_runs(struct batch *b)
{
	struct run *r;

	while ((r = b->runs)) {
		b->runs = r->next;
		proc_done(r->node);
		free(r);
	}
}

static void free_batch(struct batch *b)
{
	free_extras(b);
	free_runs(b);
	free(b->work);
	free(b);
}

static void free_list(struct list *l)
{
	struct batch *b;

	while ((b = list_take(l)))
		free_batch(b);
}

void stream_pool_free(struct cop_stream *s)
{
	struct stream_pool *p = s->pool;
	struct batch *b;
	uint32_t i;

	if (!p)
		return;
	/* an ordered stream's batches are all in `ready`, chained by `later`: what workers have is among them */
	for (i = 0; i < p->n_workers; i++) {
		struct seg_node *block = begun(&p->w[i]);

		if (block)
			pool_put(block);
		if (s->o.unordered)
			free_list(&p->w[i].work);
	}
	if (s->o.unordered) {
		free_list(&p->again);
		free_list(&p->ready);
	} else {
		while ((b = p->ready.first)) {
			p->ready.first = b->later;
			free_batch(b);
		}
	}
	free_list(&p->unused);
	free(p->w);
	free(p);
	s->pool = NULL;
}

/* --- results --- */

static struct extra *extra_of(struct batch *b, uint32_t i)
{
	struct extra *x;

	for (x = b->extras; x; x = x->next)
		if (x->i == i)
			return x;
	return NULL;
}

/* False: no memory. */
static bool add_extra(struct batch *b, uint32_t i, struct seg_node *value, const struct cop_exit *reason)
{
	struct extra *x = calloc(1, sizeof *x);

	if (!x)
		return false;
	x->next = b->extras;
	x->i = i;
	x->value = value;
	if (reason)
		x->reason = *reason;
	b->extras = x;
	return true;
}

/* The value of an element that is in a block. False: it is not. */
static bool in_block(const struct batch *b, uint32_t i, struct cop_stream_result *r)
{
	const struct run *run = b->runs;
	const struct block *k;
	struct value v;

	while (run && (i < run->from || i >= run->upto))
		run = run->next;
	if (!run)
		return false;
	k = seg_node_data(run->node);
	v = k->v[i - run->from];
	if (v.how != HOW_HERE || v.at > BLOCK_BYTES || v.len > BLOCK_BYTES - v.at)
		return false;
	r->tag = v.tag;
	r->data = (const unsigned char *)k + v.at;
	r->len = v.len;
	return true;
}

static int give(struct cop_stream *s, struct batch *b, struct cop_stream_result *r)
{
	uint32_t i = b->given++;
	struct extra *x = b->extras ? extra_of(b, i) : NULL;
	struct cop_msg msg;

	s->delivered++;
	*r = (struct cop_stream_result){ .how = 1 };
	if (x && x->value) {
		(void)proc_msg(&msg, x->value);
		r->tag = msg.tag;
		r->data = msg.data;
		r->len = msg.len;
		return 1;
	}
	if (!x && in_block(b, i, r))
		return 1;
	r->how = -1;
	r->reason = x ? x->reason : cop_exit_make_text(COP_EXIT_OTHER, 0, "bad_value");
	if (s->o.zip_input_on_exit) {
		r->input = (const unsigned char *)b->work + b->work->e[i].at;
		r->input_len = b->work->e[i].len;
	}
	return 1;
}

/* What has been given out to the end may be filled again. */
static void recycle(struct cop_stream *s, struct batch *b)
{
	struct stream_pool *p = s->pool;

	p->n_batches--;
	free_extras(b);
	free_runs(b);
	if (b->room != BLOCK_BYTES) {
		free_batch(b);
		return;
	}
	list_put(&p->unused, b);
}

/* The batch whose next result is to be given out; NULL: none yet. */
static struct batch *ready(struct cop_stream *s)
{
	struct stream_pool *p = s->pool;
	struct batch *b;

	while ((b = p->ready.first) && b->done && b->given == b->n) {
		if (s->o.unordered) {
			(void)list_take(&p->ready);
		} else {
			p->ready.first = b->later;
			if (!p->ready.first)
				p->ready.last = &p->ready.first;
		}
		recycle(s, b);
	}
	return b && b->done ? b : NULL;
}

static void batch_done(struct cop_stream *s, struct batch *b)
{
	b->done = true;
	if (s->o.unordered)
		list_put(&s->pool->ready, b);
}

/* --- filling --- */

static struct batch *new_batch(struct cop_stream *s, size_t first_len)
{
	struct stream_pool *p = s->pool;
	size_t need = sizeof(struct work) + 16 + ROUND(first_len);
	struct batch *b = need <= BLOCK_BYTES ? list_take(&p->unused) : NULL;
	struct work *work = b ? b->work : NULL;

	if (need < BLOCK_BYTES)
		need = BLOCK_BYTES;
	if (!b) {
		b = malloc(sizeof *b);
		work = b ? malloc(need) : NULL;
		if (!work) {
			free(b);
			errno = ENOMEM;
			return NULL;
		}
	}
	*b = (struct batch){ .work = work, .room = need };
	return b;
}

/* 1: there is one in p->item; 0: no more; -1 with errno. */
static int want_item(struct cop_stream *s)
{
	struct stream_pool *p = s->pool;
	int more;

	if (p->has_item)
		return 1;
	if (s->input_done)
		return 0;
	s->begun = true;
	more = s->input.next(s->input.ctx, &p->item, &p->item_len);
	s->input_done = more <= 0;
	p->has_item = more > 0;
	if (more > 0 && p->item_len > COP_MSG_MAX - sizeof(struct work) - 32) {
		errno = EMSGSIZE;
		return -1;
	}
	return more;
}

/* Elements, as many as there should be and fit; a slow input ends it, too. */
static int fill(struct cop_stream *s, struct batch *b)
{
	struct stream_pool *p = s->pool;
	struct work *w = b->work;
	uint32_t most = b->room == BLOCK_BYTES ? p->target : 1;
	size_t at = ROUND(sizeof *w + most * sizeof w->e[0]);
	int64_t since = coarse_ns();
	int more = 1;

	if (at + p->item_len > b->room) {
		most = 1;
		at = ROUND(sizeof *w + sizeof w->e[0]);
	}
	for (b->n = 0; b->n < most && (more = want_item(s)) > 0; b->n++) {
		if (b->n > 0 && (at + p->item_len > b->room || coarse_ns() != since))
			break;
		w->e[b->n] = (struct element){ (uint32_t)at, (uint32_t)p->item_len };
		if (p->item_len)
			memcpy((unsigned char *)w + at, p->item, p->item_len);
		b->len = at + p->item_len;
		at = ROUND(b->len);
		p->has_item = false;
	}
	w->n = b->n;
	w->from = 0;
	w->unused = 0;
	s->spawned += b->n;
	return more < 0 ? -1 : 0;
}

/* 0, or -1 with errno. */
static int hand_over(struct cop_stream *s, struct worker *w, struct batch *b)
{
	void *data = cop_msg_new(b->len, 0);

	if (!data) {
		int err = errno;

		list_put(&s->pool->again, b);
		errno = err;
		return -1;
	}
	memcpy(data, b->work, b->len);
	list_put(&w->work, b);
	if (w->n_work++ == 0)
		w->since_ns = clock_mono_ns();
	(void)cop_msg_send(cop_to((cop_pid){ w->pid }), STREAM_BATCH, data, 0);
	return 0;
}

/* --- the processes --- */

static void ask_for_worker(struct cop_stream *s, uint32_t slot)
{
	struct stream_spawn spawn = { slot, 0, 0 };

	s->pool->w[slot].asked = true;
	(void)cop_send(cop_to(s->monitor), STREAM_SPAWN, &spawn, sizeof spawn);
}

/* A process that has room for a batch, the idle ones first; asks for another if all are busy. */
static struct worker *free_worker(struct cop_stream *s)
{
	struct stream_pool *p = s->pool;
	uint32_t depth = p->target >= DEEP_FROM ? 2 : 1, i, none = p->n_workers;
	struct worker *best = NULL;
	bool coming = false;

	for (i = 0; i < p->n_workers; i++) {
		struct worker *w = &p->w[i];

		coming |= w->asked;
		if (w->pid == 0 && !w->asked && none == p->n_workers)
			none = i;
		if (w->pid != 0 && !w->timed_out && w->n_work < depth && (!best || w->n_work < best->n_work))
			best = w;
	}
	if ((!best || best->n_work > 0) && none < p->n_workers && !coming && !p->refused)
		ask_for_worker(s, none);
	return best;
}

/* Whether there is something to be worked on. -1 with errno: the input has failed. */
static int has_work(struct cop_stream *s)
{
	struct stream_pool *p = s->pool;

	if (p->again.first)
		return 1;
	if (p->n_batches >= p->max_batches)
		return 0;
	return want_item(s);
}

/* Gives work to those that have room. 0, or -1 with errno. */
static int feed(struct cop_stream *s)
{
	struct stream_pool *p = s->pool;
	struct worker *w;
	struct batch *b;
	int work;

	while ((work = has_work(s)) > 0 && (w = free_worker(s))) {
		b = list_take(&p->again);
		if (!b) {
			b = new_batch(s, p->item_len);
			if (!b)
				return -1;
			p->n_batches++;
			work = fill(s, b);
			if (!s->o.unordered) {
				*p->ready.last = b;
				p->ready.last = &b->later;
			}
		}
		if (hand_over(s, w, b) < 0 || work < 0)
			return -1;
	}
	return work < 0 ? -1 : 0;
}

/* --- events --- */

/* By the process's own clock: how long it waited for a processor, or in its mailbox, is not the work's. */
static void adapt(struct cop_stream *s, const struct batch *b, int64_t took)
{
	struct stream_pool *p = s->pool;
	uint32_t most = s->o.batch && s->o.batch < BATCH_MAX ? s->o.batch : BATCH_MAX;
	int64_t fits = took > 0 ? (int64_t)b->n * BATCH_NS / took : BATCH_MAX;

	if (fits > 2 * (int64_t)p->target)
		fits = 2 * (int64_t)p->target; /* step by step: one that was fast may be alone in that */
	p->target = fits < 1 ? 1 : fits > most ? most : (uint32_t)fits;
}

/* What is done of a batch, in this block, which it takes. */
static int add_run(struct batch *b, struct seg_node *node, uint32_t n)
{
	struct run *r = malloc(sizeof *r);

	if (!r) {
		proc_done(node);
		errno = ENOMEM;
		return -1;
	}
	*r = (struct run){ b->runs, node, b->work->from, b->work->from + n };
	b->runs = r;
	return 0;
}

/* The first batch's block has come; takes the node. 0, or -1 with errno. */
static int first_done(struct cop_stream *s, struct worker *w, struct seg_node *n)
{
	struct batch *b = w->work.first;
	int64_t now = clock_mono_ns();
	struct block *k = seg_node_data(n);

	w->begun = 0;
	if (!b || seg_node_room(&proc.seg, n) < BLOCK_BYTES ||
	    atomic_load_explicit(&k->done, memory_order_acquire) != b->n - b->work->from) {
		proc_done(n);
		errno = EBADMSG; /* it said so, but is not */
		return -1;
	}
	if (add_run(b, n, b->n - b->work->from) < 0)
		return -1;
	(void)list_take(&w->work);
	w->n_work--;
	adapt(s, b, k->took_ns);
	w->since_ns = now;
	batch_done(s, b);
	return 0;
}

/* The result of the element at which it died. 0, or -1 with errno: ETIMEDOUT or ENOMEM. */
static int died_at(struct cop_stream *s, struct worker *w, struct batch *b, uint32_t i, const struct cop_exit *reason)
{
	struct cop_exit timeout = cop_exit_make(COP_EXIT_TIMEOUT, 0);

	b->deaths = 0;
	if (extra_of(b, i))
		return 0; /* its value had been sent */
	if (w->timed_out && s->o.on_timeout == COP_TIMEOUT_EXIT) {
		errno = ETIMEDOUT;
		return -1;
	}
	if (add_extra(b, i, NULL, w->timed_out ? &timeout : reason))
		return 0;
	errno = ENOMEM;
	return -1;
}

/* The first batch of one that died. 0, or -1 with errno. */
static int settle(struct cop_stream *s, struct worker *w, struct batch *b, const struct cop_exit *reason)
{
	struct seg_node *node = begun(w);
	struct block *k = node ? seg_node_data(node) : NULL;
	uint32_t left = b->n - b->work->from, done = k ? atomic_load_explicit(&k->done, memory_order_acquire) : 0;
	bool at_one = k && atomic_load(&k->begun) > done;

	w->begun = 0;
	if (done > left)
		done = 0; /* it has written what makes no sense */
	if (node && add_run(b, node, done) < 0)
		return -1;
	if (done < left && (at_one || ++b->deaths >= DEATHS_MAX)) {
		if (died_at(s, w, b, b->work->from + done, reason) < 0)
			return -1;
		done++;
	}
	b->work->from += done;
	if (b->work->from == b->n)
		batch_done(s, b);
	else
		list_put(&s->pool->again, b);
	return 0;
}

static int worker_down(struct cop_stream *s, struct worker *w, const struct cop_exit *reason)
{
	struct batch *b = list_take(&w->work);
	int r = 0, err = 0;

	if (w->pid)
		s->pool->n_live--;
	if (b)
		r = settle(s, w, b, reason);
	err = errno;
	if (b && r < 0)
		list_put(&s->pool->again, b);
	while ((b = list_take(&w->work)))
		list_put(&s->pool->again, b);
	w->pid = 0;
	w->n_work = 0;
	w->timed_out = false;
	errno = err;
	return r;
}

static int refused(struct cop_stream *s, struct worker *w, int err)
{
	w->asked = false;
	s->pool->refused = err ? err : EAGAIN;
	if (s->pool->n_live > 0)
		return 0; /* those that there are will do */
	errno = s->pool->refused;
	return -1;
}

/* 0, or -1 with errno. Takes the node. */
static int take_event(struct cop_stream *s, struct seg_node *n)
{
	struct stream_pool *p = s->pool;
	struct worker *w = n->peer < p->n_workers ? &p->w[n->peer] : NULL;
	struct cop_exit reason;
	int r = 0;

	if (!w) {
		proc_done(n);
		return 0;
	}
	switch (n->hprev) {
	case STREAM_SPAWNED:
		memcpy(&w->pid, seg_node_data(n), sizeof w->pid);
		w->asked = false;
		p->n_live++;
		break;
	case STREAM_REFUSED:
		r = refused(s, w, (int)n->tag);
		break;
	case STREAM_DOWN:
		reason = proc_sane_exit(seg_node_data(n));
		p->refused = 0; /* there is room again */
		r = worker_down(s, w, &reason);
		break;
	case STREAM_BEGUN:
		w->begun = n->hnext;
		break;
	case STREAM_BATCH_DONE:
		return first_done(s, w, n);
	case STREAM_BIG_VALUE:
		if (w->work.first && n->hnext < w->work.first->n && !extra_of(w->work.first, n->hnext)) {
			if (add_extra(w->work.first, n->hnext, n, NULL))
				return 0;
			errno = ENOMEM;
			r = -1;
		}
		break;
	default:
		break;
	}
	proc_done(n);
	return r;
}

/* --- time --- */

static int64_t deadline_of(const struct cop_stream *s, const struct worker *w)
{
	struct seg_node *node;
	struct block *b;
	int64_t started = 0;

	if (w->n_work == 0 || w->timed_out || s->plan.timeout_ms < 0)
		return -1;
	node = begun(w);
	if (node) {
		b = seg_node_data(node);
		started = atomic_load_explicit(&b->started_ns, memory_order_relaxed);
	}
	if (started < w->since_ns)
		started = w->since_ns;
	return started + s->plan.timeout_ms * 1000000 + SLACK_NS;
}

/* Kills those that have taken too long over an element; returns when to look again. */
static int64_t look_at_times(struct cop_stream *s)
{
	struct cop_exit killed = cop_exit_make(COP_EXIT_KILLED, 0);
	int64_t now = clock_mono_ns(), first = -1, at;
	uint32_t i;

	for (i = 0; i < s->pool->n_workers; i++) {
		struct worker *w = &s->pool->w[i];

		at = deadline_of(s, w);
		if (at >= 0 && at <= now) {
			w->timed_out = true;
			proc_end_other(w->pid, &killed);
		} else if (at >= 0 && (first < 0 || at < first)) {
			first = at;
		}
	}
	return first;
}

/* An event that comes when the stream is being closed: what is still to be freed is known then. */
void stream_pool_late(struct cop_stream *s, const struct seg_node *n)
{
	struct worker *w = s->pool && n->peer < s->pool->n_workers ? &s->pool->w[n->peer] : NULL;

	if (w && n->hprev == STREAM_BEGUN)
		w->begun = n->hnext;
	else if (w && n->hprev == STREAM_BATCH_DONE)
		w->begun = 0;
}

/* The monitor process did not see to it: waits until nobody writes into a block any more. */
void stream_pool_wait(struct cop_stream *s)
{
	struct cop_exit killed = cop_exit_make(COP_EXIT_KILLED, 0);
	uint32_t i;

	for (i = 0; s->pool && i < s->pool->n_workers; i++) {
		uint64_t pid = s->pool->w[i].pid;

		if (!pid)
			continue;
		proc_end_other(pid, &killed);
		while (seg_is_there(&proc.seg, pid))
			inbox_futex_wait(&proc.slot->asleep, SEG_AWAKE, 1);
	}
}

static int fail(struct cop_stream *s, struct cop_stream_result *r)
{
	struct cop_exit timeout = cop_exit_make(COP_EXIT_TIMEOUT, 0);

	if (errno == ETIMEDOUT)
		return stream_fail(s, r, &timeout, ETIMEDOUT);
	return stream_fail_errno(s, r, errno);
}

int stream_pool_next(struct cop_stream *s, struct cop_stream_result *r)
{
	struct batch *b;
	struct seg_node *n;

	if (!s->pool && open_pool(s) < 0)
		return stream_fail_errno(s, r, ENOMEM);
	for (;;) {
		b = ready(s);
		if (b && b->given < b->n && b->given > 0)
			return give(s, b, r);
		/* before a batch is given out, those who have nothing get something; what has come is looked at */
		if (feed(s) < 0)
			return fail(s, r);
		if (b)
			return give(s, b, r);
		if (s->input_done && !s->pool->has_item && s->pool->n_batches == 0)
			return 0;
		n = stream_next_event(s, look_at_times(s));
		if (n && atomic_load(&n->kind) == NODE_DOWN)
			return stream_monitor_failed(s, r, n);
		if (n && take_event(s, n) < 0)
			return fail(s, r);
	}
}
