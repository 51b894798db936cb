/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* A process of a stream's pool: takes a batch, works on one element after the other, gives the values back. Waits for
 * nothing but the next batch, and is ended from outside. */
#include <coppice/task.h>

#include <string.h>

#include "base/clock.h"
#include "otp/task_batch.h"

static _Noreturn void leave(const char *word)
{
	struct cop_exit reason = cop_exit_make_text(COP_EXIT_OTHER, 0, word);

	cop_exit(&reason);
}

static void tell(const struct stream_plan *p, struct seg_node *n, enum stream_event ev, uint32_t slot,
    uint32_t position)
{
	n->from = proc.id;
	n->ref = p->ref.id;
	n->peer = slot;
	n->hnext = position;
	n->hprev = ev;
	atomic_store_explicit(&n->kind, NODE_REPLY, memory_order_relaxed);
	if (ev == STREAM_BEGUN)
		(void)proc_send_quiet(p->consumer, n); /* who waits, waits for the values */
	else
		(void)proc_send(p->consumer, n, false, 0);
}

/* The block is the consumer's only when that knows of it: killed before, it is free with our other memory. */
static struct seg_node *new_block(const struct stream_plan *p, uint32_t slot, uint32_t n)
{
	struct seg_node *node = proc_node(BLOCK_BYTES, 0), *word = node ? proc_node(0, 0) : NULL;
	struct block *b;

	if (!word)
		leave("enomem");
	b = seg_node_data(node);
	memset(b, 0, sizeof *b + n * sizeof b->v[0]);
	b->values_at = (uint32_t)(sizeof *b + n * sizeof b->v[0]);
	tell(p, word, STREAM_BEGUN, slot, seg_index_of(&proc.seg, node));
	__atomic_store_n(&node->to, p->consumer, __ATOMIC_RELEASE);
	return node;
}

/* Element i, as the j-th of the block. */
static void work_on_one(const struct stream_plan *p, uint32_t slot, const struct work *w, uint32_t i, struct block *b,
    uint32_t j)
{
	unsigned char *base = (unsigned char *)b;
	uint32_t at = b->values_at;
	struct task_sink sink = { .at = base + at, .room = BLOCK_BYTES - at };
	struct cop_result r;

	atomic_store_explicit(&b->started_ns, coarse_ns(), memory_order_relaxed);
	atomic_store_explicit(&b->begun, j + 1, memory_order_relaxed);
	task_sink = &sink;
	r = p->work(p->ctx, (const unsigned char *)w + w->e[i].at, w->e[i].len);
	if (sink.used && r.node == 0) {
		b->v[j] = (struct value){ at, (uint32_t)sink.len, sink.tag, HOW_HERE };
		at += (uint32_t)ROUND(sink.len);
		b->values_at = at < BLOCK_BYTES ? at : (uint32_t)BLOCK_BYTES;
	} else {
		sink.used = false;
		b->v[j].how = HOW_SENT;
		tell(p, task_value(r), STREAM_BIG_VALUE, slot, i);
	}
	task_sink = NULL;
	atomic_store_explicit(&b->done, j + 1, memory_order_release);
}

static bool makes_sense(const struct work *w, size_t len)
{
	uint32_t i;

	if (len < sizeof *w || w->n > BATCH_MAX || w->n > (len - sizeof *w) / sizeof w->e[0] || w->from >= w->n)
		return false;
	for (i = 0; i < w->n; i++)
		if (w->e[i].at > len || w->e[i].len > len - w->e[i].at)
			return false;
	return true;
}

static bool is_batch(void *ctx, const struct cop_msg *m)
{
	const struct stream_plan *p = ctx;

	return m->kind == COP_MSG_PLAIN && m->tag == STREAM_BATCH && m->from.id == p->consumer;
}

_Noreturn void stream_worker(const struct stream_plan *plan, uint32_t slot)
{
	struct stream_plan p = *plan;
	const struct work *w;
	struct seg_node *node;
	struct cop_msg msg;
	uint32_t i, n, from;
	struct block *b;
	int64_t since;

	for (;;) {
		if (cop_receive(&msg, is_batch, &p, COP_INFINITY) != 1)
			leave("enomem");
		w = msg.data;
		if (!makes_sense(w, msg.len))
			leave("bad_batch");
		n = w->n;
		from = w->from;
		node = new_block(&p, slot, n - from);
		b = seg_node_data(node);
		since = clock_mono_ns();
		for (i = from; i < n; i++)
			work_on_one(&p, slot, w, i, b, i - from);
		b->took_ns = clock_mono_ns() - since;
		cop_msg_done(&msg);
		tell(&p, node, STREAM_BATCH_DONE, slot, seg_index_of(&proc.seg, node));
	}
}
