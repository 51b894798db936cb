/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * A stream's pool: processes that each work on many elements. Elements go to a process by the batch, in one block of
 * the consumer's shared memory, into which the process writes the values; so an element costs no message. How many make
 * a batch follows from how long the last ones took: slow work goes one by one.
 *
 * A process that dies says by the block how far it came: what is done counts, the element it was at has its death as
 * result, and what it had not begun goes to another.
 *
 *   word of a block    who writes             who reads
 *   n, from, e[].at    consumer, before it is given    process
 *   done               process: an element is over     consumer: release/acquire
 *   started_ns         process: when it began one      consumer, for time-outs
 *   e[].value_*        process, before done            consumer, after done
 *
 * A block is never sent, only its index is: the consumer frees it. Whatever is read from it is checked before use.
 */
#include <coppice/task.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "otp/task_stream.h"

#define BLOCK_BYTES (32768 - sizeof(struct seg_node)) /* the largest that is not a run of chunks */
#define BATCH_MAX 512u
#define BATCH_NS 200000      /* what a batch should take */
#define VALUE_ROOM 4096      /* for the value of an element that has a block to itself */
#define DEEP_FROM 16u        /* batches of so many are worth having the next one ready */
#define DEATHS_MAX 3         /* in a row, of processes that began nothing */
#define SLACK_NS 8000000     /* of the coarse clock */
#define ROUND(n) (((n) + 15) & ~(size_t)15)

struct element {
	uint32_t at, len;
	uint32_t value_at, value_len, tag;
	uint32_t how;            /* enum how */
};

enum how { HOW_NONE, HOW_HERE, HOW_SENT };

struct block {
	_Atomic uint32_t done;
	uint32_t n, from;
	uint32_t values_at;      /* the next value's place */
	_Atomic int64_t started_ns;
	uint64_t unused;
	struct element e[];
};
_Static_assert(sizeof(struct block) % 16 == 0 && sizeof(struct element) == 24, "laid out by hand below");

static int64_t coarse_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* --- in a process of the pool --- */

static void tell(const struct stream_plan *p, struct seg_node *n, enum stream_event ev, uint32_t slot, uint32_t position)
{
	n->from = proc.id;
	n->ref = p->ref.id;
	n->peer = slot;
	n->hnext = position;
	n->hprev = ev;
	atomic_store_explicit(&n->kind, NODE_REPLY, memory_order_relaxed);
	(void)proc_send(p->consumer, n, false, 0);
}

/* One element; false: the block makes no sense. */
static bool work_on_one(const struct stream_plan *p, uint32_t slot, struct block *b, size_t room, uint32_t i)
{
	unsigned char *base = (unsigned char *)b;
	struct element e = b->e[i];
	uint32_t at = b->values_at;
	struct task_sink sink = { .at = base + at, .room = at < room ? room - at : 0 };
	struct cop_result r;

	if (e.at > room || e.len > room - e.at)
		return false;
	atomic_store_explicit(&b->started_ns, coarse_ns(), memory_order_relaxed);
	task_sink = sink.room ? &sink : NULL;
	r = p->work(p->ctx, base + e.at, e.len);
	if (sink.used && r.node == 0) {
		b->e[i].value_at = at;
		b->e[i].value_len = (uint32_t)sink.len;
		b->e[i].tag = sink.tag;
		b->e[i].how = HOW_HERE;
		b->values_at = at + (uint32_t)ROUND(sink.len);
	} else {
		task_sink = NULL;
		b->e[i].how = HOW_SENT;
		tell(p, task_value(r), STREAM_BIG_VALUE, slot, i);
	}
	task_sink = NULL;
	atomic_store_explicit(&b->done, i + 1, memory_order_release);
	return true;
}

static bool work_on(const struct stream_plan *p, uint32_t slot, struct block *b, size_t room)
{
	uint32_t i, n = b->n;

	if (room < sizeof *b || n > (room - sizeof *b) / sizeof b->e[0])
		return false;
	for (i = b->from; i < n; i++)
		if (!work_on_one(p, slot, b, room, i))
			return false;
	return true;
}

static bool is_batch(void *ctx, const struct cop_msg *m)
{
	const struct stream_plan *p = ctx;

	return m->kind == COP_MSG_PLAIN && m->tag == STREAM_BATCH && m->from.id == p->consumer && m->len == sizeof(uint32_t);
}

static _Noreturn void leave(const char *word)
{
	struct cop_exit reason = cop_exit_make_text(COP_EXIT_OTHER, 0, word);

	cop_exit(&reason);
}

_Noreturn void stream_worker(const struct stream_plan *plan, uint32_t slot)
{
	struct stream_plan p = *plan;
	struct seg_node *n;
	struct cop_msg msg;
	uint32_t index;

	for (;;) {
		if (cop_receive(&msg, is_batch, &p, COP_INFINITY) != 1)
			leave("enomem");
		memcpy(&index, msg.data, sizeof index);
		cop_msg_done(&msg);
		n = seg_node(&proc.seg, index);
		if (!n || !work_on(&p, slot, seg_node_data(n), seg_node_room(&proc.seg, n)))
			leave("bad_batch");
		n = proc_node(0, 0);
		if (!n)
			leave("enomem");
		tell(&p, n, STREAM_BATCH_DONE, slot, index);
	}
}

/* --- in the consumer --- */

/* What an element's result is, if it is not in the block. */
struct extra {
	struct extra *next;
	uint32_t i;
	struct seg_node *value;  /* NULL: reason */
	struct cop_exit reason;
};

struct batch {
	struct batch *next;      /* in the list that it is in */
	struct batch *later;     /* ordered: the one that was filled after it */
	struct seg_node *node;
	size_t room;
	uint32_t n, given;
	bool done;
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

static struct block *block_of(const struct batch *b)
{
	return seg_node_data(b->node);
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

static void free_batch(struct batch *b)
{
	free_extras(b);
	if (b->node)
		pool_put(b->node);
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
	for (i = 0; i < p->n_workers && s->o.unordered; i++)
		free_list(&p->w[i].work);
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

static int give(struct cop_stream *s, struct batch *b, struct cop_stream_result *r)
{
	uint32_t i = b->given++;
	unsigned char *base = seg_node_data(b->node);
	struct element e = block_of(b)->e[i];
	struct extra *x = b->extras ? extra_of(b, i) : NULL;
	struct cop_msg msg;

	s->delivered++;
	*r = (struct cop_stream_result){ .how = 1, .tag = e.tag };
	if (x && x->value) {
		(void)proc_msg(&msg, x->value);
		r->tag = msg.tag;
		r->data = msg.data;
		r->len = msg.len;
		return 1;
	}
	if (!x && e.how == HOW_HERE && e.value_at <= b->room && e.value_len <= b->room - e.value_at) {
		r->data = base + e.value_at;
		r->len = e.value_len;
		return 1;
	}
	r->how = -1;
	r->reason = x ? x->reason : cop_exit_make_text(COP_EXIT_OTHER, 0, "bad_value");
	if (s->o.zip_input_on_exit && e.at <= b->room && e.len <= b->room - e.at) {
		r->input = base + e.at;
		r->input_len = e.len;
	}
	return 1;
}

/* What has been given out to the end may be filled again. */
static void recycle(struct cop_stream *s, struct batch *b)
{
	struct stream_pool *p = s->pool;

	p->n_batches--;
	free_extras(b);
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
	size_t need = sizeof(struct block) + sizeof(struct element) + 16 + ROUND(first_len) + VALUE_ROOM;
	struct batch *b = need <= BLOCK_BYTES ? list_take(&p->unused) : NULL;
	struct seg_node *node = b ? b->node : NULL;

	if (!b) {
		b = calloc(1, sizeof *b);
		node = b ? proc_node(need <= BLOCK_BYTES ? BLOCK_BYTES : need, COP_NOWAIT) : NULL;
		if (!node) {
			free(b);
			return NULL;
		}
	}
	*b = (struct batch){ .node = node, .room = need <= BLOCK_BYTES ? BLOCK_BYTES : need };
	memset(seg_node_data(node), 0, sizeof(struct block));
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
	if (more > 0 && p->item_len > COP_MSG_MAX - 2 * VALUE_ROOM) {
		errno = EMSGSIZE;
		return -1;
	}
	return more;
}

/* Elements, as many as there should be and fit in the first half; a slow input ends it, too. */
static int fill(struct cop_stream *s, struct batch *b)
{
	struct stream_pool *p = s->pool;
	struct block *k = block_of(b);
	uint32_t most = b->room == BLOCK_BYTES ? p->target : 1;
	size_t at = ROUND(sizeof *k + most * sizeof k->e[0]), half = at + (b->room - at) / 2;
	int64_t since = coarse_ns();
	int more = 1;

	for (b->n = 0; b->n < most && (more = want_item(s)) > 0; b->n++) {
		if (b->n > 0 && (at + p->item_len > half || coarse_ns() != since))
			break;
		k->e[b->n] = (struct element){ .at = (uint32_t)at, .len = (uint32_t)p->item_len };
		if (p->item_len)
			memcpy((unsigned char *)k + at, p->item, p->item_len);
		at = ROUND(at + p->item_len);
		p->has_item = false;
	}
	k->n = b->n;
	k->values_at = (uint32_t)at;
	s->spawned += b->n;
	return more < 0 ? -1 : 0;
}

static void hand_over(struct worker *w, struct batch *b)
{
	uint32_t index = seg_index_of(&proc.seg, b->node);
	struct block *k = block_of(b);

	k->from = atomic_load(&k->done);
	atomic_store(&k->started_ns, 0);
	list_put(&w->work, b);
	if (w->n_work++ == 0)
		w->since_ns = clock_mono_ns();
	(void)cop_send(cop_to((cop_pid){ w->pid }), STREAM_BATCH, &index, sizeof index);
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
			if (!b && p->n_batches > 0 && errno == EAGAIN)
				return 0; /* when one is given back */
			if (!b)
				return -1;
			p->n_batches++;
			work = fill(s, b);
			if (!s->o.unordered) {
				*p->ready.last = b;
				p->ready.last = &b->later;
			}
		}
		hand_over(w, b);
		if (work < 0)
			return -1;
	}
	return work < 0 ? -1 : 0;
}

/* --- events --- */

static void adapt(struct cop_stream *s, const struct batch *b, int64_t took)
{
	struct stream_pool *p = s->pool;
	uint32_t most = s->o.batch && s->o.batch < BATCH_MAX ? s->o.batch : BATCH_MAX;
	int64_t fits = took > 0 ? (int64_t)b->n * BATCH_NS / took : BATCH_MAX;

	if (fits > 2 * (int64_t)p->target)
		fits = 2 * (int64_t)p->target; /* step by step: one that was fast may be alone in that */
	p->target = fits < 1 ? 1 : fits > most ? most : (uint32_t)fits;
}

static int first_done(struct cop_stream *s, struct worker *w)
{
	struct batch *b = list_take(&w->work);
	int64_t now = clock_mono_ns();

	if (!b || atomic_load_explicit(&block_of(b)->done, memory_order_acquire) != b->n) {
		errno = EBADMSG; /* it said so, but is not */
		return -1;
	}
	w->n_work--;
	adapt(s, b, now - w->since_ns);
	w->since_ns = now;
	batch_done(s, b);
	return 0;
}

/* The first batch of one that died. 0, or -1 with errno: ETIMEDOUT or ENOMEM. */
static int settle(struct cop_stream *s, struct worker *w, struct batch *b, const struct cop_exit *reason)
{
	struct cop_exit timeout = cop_exit_make(COP_EXIT_TIMEOUT, 0);
	struct block *k = block_of(b);
	uint32_t done = atomic_load_explicit(&k->done, memory_order_acquire);

	if (done < k->from || done > b->n)
		done = k->from; /* it has written what makes no sense */
	if (done < b->n && (atomic_load(&k->started_ns) != 0 || ++b->deaths >= DEATHS_MAX)) {
		b->deaths = 0;
		if (extra_of(b, done) == NULL) {
			if (w->timed_out && s->o.on_timeout == COP_TIMEOUT_EXIT) {
				errno = ETIMEDOUT;
				return -1;
			}
			if (!add_extra(b, done, NULL, w->timed_out ? &timeout : reason)) {
				errno = ENOMEM;
				return -1;
			}
		}
		done++;
	}
	atomic_store(&k->done, done);
	if (k->values_at > b->room)
		k->values_at = (uint32_t)b->room;
	if (done == b->n)
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
	case STREAM_BATCH_DONE:
		r = first_done(s, w);
		break;
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
	int64_t started;

	if (w->n_work == 0 || w->timed_out || s->plan.timeout_ms < 0)
		return -1;
	started = atomic_load_explicit(&block_of(w->work.first)->started_ns, memory_order_relaxed);
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
