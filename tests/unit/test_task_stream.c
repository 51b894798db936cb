/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* Streams of tasks: order, laziness, limits, time-outs, crashes, early ends; one process an element, and pools. */
#include "node_rig.h"

/* The numbers from 0 on, `n` of them; counts what was asked for and whether it was told to stop. */
struct numbers {
	int64_t at, n;
	int64_t give;            /* the element at hand */
	size_t pad;              /* bytes more */
	int halted;
	int fail;                /* errno, at the end */
};

static char padding[400000];

static int next_number(void *ctx, const void **item_r, size_t *len_r)
{
	struct numbers *f = ctx;

	if (f->at == f->n) {
		errno = f->fail;
		return f->fail ? -1 : 0;
	}
	f->give = f->at++;
	*item_r = &f->give;
	*len_r = sizeof f->give;
	if (f->pad) {
		memcpy(padding, &f->give, sizeof f->give);
		*item_r = padding;
		*len_r = f->pad;
	}
	return 1;
}

static void halted(void *ctx)
{
	((struct numbers *)ctx)->halted++;
}

static int64_t number_of(const void *item, size_t len)
{
	int64_t n = -1;

	T_CHECK(len >= sizeof n && (uintptr_t)item % 16 == 0);
	memcpy(&n, item, sizeof n);
	return n;
}

/* What to do with some of the elements. */
struct doing {
	int64_t slow;                     /* the first so many */
	int64_t crash, hang, normal, big; /* element AT(n); 0: none */
	bool echo;
	int slow_ms;
};

#define AT(n) ((n) + 1)
#define DOES(...) ((struct doing){ __VA_ARGS__ })

static struct cop_result work(void *ctx, const void *item, size_t len)
{
	static char big[100000];
	int64_t n = number_of(item, len);
	const struct doing *d = ctx;

	atomic_store(&rig->pid[0], cop_os_pid(cop_self()));
	atomic_store(&rig->pid[1], cop_os_pid(cop_parent()));
	atomic_fetch_add(&rig->count, 1);
	if (!d)
		return cop_return(&n, sizeof n);
	if (n < d->slow)
		cop_sleep(d->slow_ms);
	if (AT(n) == d->crash)
		exit_with("boom");
	if (AT(n) == d->normal)
		exit_with("normal");
	if (AT(n) == d->hang)
		waits(NULL);
	if (AT(n) == d->big) {
		memset(big, 'b', sizeof big);
		memcpy(big, &n, sizeof n);
		return cop_return(big, sizeof big);
	}
	if (d->echo)
		return cop_return_tag((uint32_t)n, item, len);
	return cop_return(&n, sizeof n);
}

static struct cop_stream *opened(struct numbers *f, const struct cop_stream_options *o)
{
	struct cop_stream_input input = { next_number, halted, f };
	struct cop_stream *s = cop_stream_open(&input, work, o);

	T_REQUIRE(s != NULL);
	T_EQ_INT(f->at, 0); /* lazy */
	return s;
}

/* The next result's number, or what else it was. */
static int64_t got(struct cop_stream *s)
{
	struct cop_stream_result r;
	int more = cop_stream_next(s, &r);

	if (more == 0)
		return -100;
	if (more < 0)
		return -200 - errno;
	if (r.how < 0)
		return r.reason.kind == COP_EXIT_TIMEOUT ? -3 : r.reason.kind == COP_EXIT_NORMAL ? -4 : -2;
	T_EQ_INT(r.how, 1);
	return number_of(r.data, r.len);
}

static void expect_all(struct numbers f, const struct cop_stream_options *o)
{
	struct cop_stream *s = opened(&f, o);
	int64_t i, n, sum = 0;

	for (i = 0; i < f.n; i++) {
		n = got(s);
		if (!o->unordered)
			T_EQ_INT(n, i);
		sum += n;
	}
	T_EQ_INT(sum, f.n * (f.n - 1) / 2);
	T_EQ_INT(got(s), -100);
	T_EQ_INT(got(s), -200 - ECANCELED);
	T_EQ_INT(f.halted, 1);
	cop_stream_close(s);
	EXPECT_NOTHING();
}

NODE_CASE(all_in_order)
{
	struct cop_stream_options two = { .max_concurrency = 2 };
	uint32_t max;

	for (max = 0; max <= 20; max += 5)
		expect_all((struct numbers){ .n = 12 }, &(struct cop_stream_options){ .max_concurrency = max });
	expect_all((struct numbers){ .n = 0 }, &(struct cop_stream_options){ .max_concurrency = 3 });
	expect_all((struct numbers){ .n = 5, .pad = sizeof padding }, &two);
	two.unordered = true;
	expect_all((struct numbers){ .n = 40 }, &two);
}

NODE_CASE(a_slow_one_holds_nobody_back)
{
	struct doing d = DOES(.slow = 1, .slow_ms = 200);
	struct cop_stream_options o = { .max_concurrency = 2, .ctx = &d };
	struct numbers f = { .n = 30 };
	struct cop_stream *s = opened(&f, &o);

	T_EQ_INT(got(s), 0);
	T_EQ_INT(atomic_load(&rig->count), 30); /* all the others had run by then */
	T_EQ_INT(got(s), 1);
	cop_stream_close(s);
	EXPECT_NOTHING();
	o.unordered = true;
	f = (struct numbers){ .n = 3 };
	s = opened(&f, &o);
	T_EQ_INT(got(s), 1);
	T_EQ_INT(got(s), 2);
	T_EQ_INT(got(s), 0);
	T_EQ_INT(got(s), -100);
	cop_stream_close(s);
	EXPECT_NOTHING();
}

NODE_CASE(pulls_as_slots_are_free)
{
	struct cop_stream_options o = { .max_concurrency = 2, .unordered = true };
	struct numbers f = { .n = 100 };
	struct cop_stream *s = opened(&f, &o);

	T_CHECK(got(s) >= 0);
	T_EQ_INT(f.at, 2);
	cop_sleep(50); /* we take our time: nothing is pulled */
	T_EQ_INT(f.at, 2);
	T_CHECK(got(s) >= 0);
	T_EQ_INT(f.at, 3);
	cop_stream_close(s);
	T_EQ_INT(f.halted, 1);
	EXPECT_NOTHING();
}

NODE_CASE(early_end)
{
	struct doing d = DOES(.hang = AT(2));
	struct cop_stream_options o = { .max_concurrency = 4, .ctx = &d, .unordered = true };
	struct numbers f = { .n = 1000000 };
	struct cop_stream *s;
	int trap;

	for (trap = 0; trap < 2; trap++) {
		cop_trap_exit(trap);
		f = (struct numbers){ .n = 1000000 };
		s = opened(&f, &o);
		T_CHECK(got(s) >= 0);
		T_CHECK(got(s) >= 0);
		cop_stream_close(s);
		T_EQ_INT(f.at, 5);
		EXPECT_NOTHING();
	}
	s = opened(&(struct numbers){ .n = 3 }, NULL);
	cop_stream_close(s); /* never begun */
	EXPECT_NOTHING();
}

NODE_CASE(time_outs)
{
	struct doing d = DOES(.hang = AT(1));
	struct cop_stream_options o = { .max_concurrency = 2, .ctx = &d, .timeout_ms = 100,
		.on_timeout = COP_TIMEOUT_KILL_TASK };
	struct numbers f = { .n = 4 };
	struct cop_stream *s = opened(&f, &o);

	T_EQ_INT(got(s), 0);
	T_EQ_INT(got(s), -3);
	T_EQ_INT(got(s), 2);
	T_EQ_INT(got(s), 3);
	T_EQ_INT(got(s), -100);
	cop_stream_close(s);
	EXPECT_NOTHING();
	o.on_timeout = COP_TIMEOUT_EXIT;
	f = (struct numbers){ .n = 4 };
	s = opened(&f, &o);
	T_EQ_INT(got(s), 0);
	T_EQ_INT(got(s), -200 - ETIMEDOUT);
	T_EQ_INT(got(s), -200 - ECANCELED);
	T_EQ_INT(f.halted, 1);
	cop_stream_close(s);
	EXPECT_NOTHING();
}

static void consumes(void *arg)
{
	struct numbers f = { .n = 4 };
	struct cop_stream *s = opened(&f, arg);

	while (got(s) != -100)
		;
	cop_stream_close(s);
}

NODE_CASE(crashes)
{
	struct doing d = DOES(.crash = AT(1), .normal = AT(2));
	struct cop_stream_options o = { .max_concurrency = 2, .ctx = &d };
	struct cop_stream_result r;
	struct numbers f = { .n = 4 };
	struct cop_stream *s;
	cop_ref ref;

	spawned_monitor(consumes, &o, &ref);
	EXPECT_DOWN(ref, "boom");
	cop_trap_exit(true);
	o.zip_input_on_exit = true;
	s = opened(&f, &o);
	T_EQ_INT(got(s), 0);
	T_EQ_INT(cop_stream_next(s, &r), 1);
	T_CHECK(r.how == -1 && r.input && r.input_len == 8);
	T_EQ_STR(text_of(r.reason), "boom");
	T_EQ_INT(*(const int64_t *)r.input, 1);
	T_EQ_INT(got(s), -4);
	T_EQ_INT(got(s), 3);
	T_EQ_INT(got(s), -100);
	cop_stream_close(s);
	EXPECT_NOTHING();
}

NODE_CASE(inputs_that_fail)
{
	struct numbers f = { .n = 2, .fail = EIO };
	struct cop_stream *s = opened(&f, &(struct cop_stream_options){ .max_concurrency = 8 });

	T_EQ_INT(got(s), -200 - EIO); /* as it is pulled before anything is waited for */
	T_EQ_INT(f.halted, 1);
	cop_stream_close(s);
	EXPECT_NOTHING();
	errno = 0;
	T_CHECK(!cop_stream_open(NULL, work, NULL) && errno == EINVAL);
	T_CHECK(!cop_stream_open(&(struct cop_stream_input){ next_number, NULL, &f }, work,
	    &(struct cop_stream_options){ .nolink = true }));
	T_CHECK(!cop_stream_open(&(struct cop_stream_input){ next_number, NULL, &f }, work,
	    &(struct cop_stream_options){ .timeout_ms = -5 }));
}

static int next_seven(void *ctx, const void **item_r, size_t *len_r)
{
	return 7 * next_number(ctx, item_r, len_r);
}

/* Only the sign of what an input returns counts. */
NODE_CASE(inputs_that_say_seven)
{
	struct cop_stream_options o = { .max_concurrency = 2 };
	struct numbers f;
	struct cop_stream_input input = { next_seven, NULL, &f };
	struct cop_stream *s;
	int64_t last;
	int i;

	for (i = 0; i < 4; i++) {
		o.pooled = i % 2;
		f = (struct numbers){ .n = 2, .fail = i < 2 ? 0 : EIO };
		s = cop_stream_open(&input, work, &o);
		T_REQUIRE(s != NULL);
		if (f.fail == 0) {
			T_EQ_INT(got(s), 0);
			T_EQ_INT(got(s), 1);
			T_EQ_INT(got(s), -100);
		} else {
			while ((last = got(s)) >= 0)
				;
			T_EQ_INT(last, -200 - EIO);
		}
		cop_stream_close(s);
	}
	EXPECT_NOTHING();
}

static void hangs(void *arg)
{
	struct doing d = DOES(.slow = 100, .slow_ms = 100000);
	struct cop_stream_options *o = arg;
	struct numbers f = { .n = 4 };
	struct cop_stream *s;

	o->ctx = &d;
	s = opened(&f, o);
	(void)got(s);
}

/* Whoever it is that dies, nothing of the stream is left: the case's own check finds what is. */
NODE_CASE(consumers_that_are_killed)
{
	struct cop_stream_options o = { .max_concurrency = 3 };
	cop_pid c;
	int i, before = atomic_load(&rig->count);

	for (i = 0; i < 30 / RIG_HEAVY; i++) {
		o.pooled = i % 2;
		c = spawned(hangs, &o);
		if (i % 3 != 0)
			EVENTUALLY(atomic_load(&rig->count) > before);
		cop_kill(c);
		T_CHECK(gone(c));
		before = atomic_load(&rig->count);
	}
}

/* The Unix process that a task has written down. */
static void kill_noted(void *arg)
{
	_Atomic int *pid = arg;

	EVENTUALLY(atomic_load(pid) > 1);
	kill(atomic_load(pid), SIGKILL);
}

NODE_CASE(the_monitor_process_is_killed)
{
	struct doing d = DOES(.slow = 100, .slow_ms = 100000);
	struct cop_stream_options o = { .max_concurrency = 3, .ctx = &d };
	struct numbers f = { .n = 4 };
	struct cop_stream *s;

	cop_trap_exit(true);
	s = opened(&f, &o);
	spawned(kill_noted, &rig->pid[1]);
	T_EQ_INT(got(s), -200 - EPIPE);
	cop_stream_close(s);
	EXPECT_NOTHING();
}

/* --- under a supervisor --- */

NODE_CASE(supervised)
{
	struct cop_supervisor spec = cop_task_supervisor("tasks", 0);
	struct cop_dest sup = cop_named("tasks");
	struct doing d = DOES(.echo = true);
	struct cop_stream_options o = { .max_concurrency = 3, .supervisor = &sup, .ctx = &d, .ctx_size = sizeof d };
	struct cop_started st;
	int nolink;

	T_REQUIRE(cop_supervisor_start_link(&spec, &st) == COP_STARTED);
	for (nolink = 0; nolink < 2; nolink++) {
		o.nolink = nolink;
		expect_all((struct numbers){ .n = 10 }, &o);
		expect_all((struct numbers){ .n = 3, .pad = sizeof padding }, &o);
	}
	d = DOES(.crash = AT(0));
	o.max_concurrency = 1;
	{
		struct numbers f = { .n = 2 };
		struct cop_stream *s = opened(&f, &o);

		T_EQ_INT(got(s), -2);
		T_EQ_INT(got(s), 1);
		cop_stream_close(s);
	}
	EXPECT_NOTHING();
}

NODE_CASE(a_supervisor_with_a_limit)
{
	struct cop_supervisor spec = cop_task_supervisor("tasks", 2);
	struct cop_dest sup = cop_named("tasks");
	struct doing d = DOES(.hang = AT(1));
	struct cop_stream_options o = { .max_concurrency = 5, .supervisor = &sup, .ctx = &d, .ctx_size = sizeof d };
	struct cop_started st;
	struct numbers f = { .n = 10 };
	struct cop_stream *s;

	d.slow = 1;
	d.slow_ms = 100000;
	T_REQUIRE(cop_supervisor_start_link(&spec, &st) == COP_STARTED);
	s = opened(&f, &o);
	T_EQ_INT(got(s), -200 - EOVERFLOW);
	T_EQ_INT(cop_task_supervisor_children(sup, NULL, 0), 0);
	cop_stream_close(s);
	EXPECT_NOTHING();
}

/* --- pools --- */

NODE_CASE(pools)
{
	struct cop_stream_options o = { .pooled = true };
	int i;

	for (i = 0; i < 8; i++) {
		o.unordered = i & 1;
		o.max_concurrency = i & 2 ? 1 : 3;
		o.batch = i & 4 ? 7 : 0;
		expect_all((struct numbers){ .n = 100000 / RIG_HEAVY }, &o);
		expect_all((struct numbers){ .n = 0 }, &o);
		expect_all((struct numbers){ .n = 1 }, &o);
	}
	expect_all((struct numbers){ .n = 300, .pad = 10000 }, &o);
	expect_all((struct numbers){ .n = 10, .pad = sizeof padding }, &o);
}

NODE_CASE(values_in_a_pool)
{
	struct doing d = DOES(.echo = true, .big = AT(50));
	struct cop_stream_options o = { .pooled = true, .max_concurrency = 2, .ctx = &d };

	expect_all((struct numbers){ .n = 1000, .pad = 3000 }, &o);
	expect_all((struct numbers){ .n = 1000, .pad = 17 }, &o);
	expect_all((struct numbers){ .n = 20, .pad = 100000 }, &o);
}

NODE_CASE(a_crash_costs_a_pool_one_element)
{
	struct doing d = DOES(.crash = AT(3000), .normal = AT(5001));
	struct cop_stream_options o = { .pooled = true, .max_concurrency = 2, .ctx = &d, .zip_input_on_exit = true };
	struct numbers f = { .n = 10000 };
	struct cop_stream *s;
	struct cop_stream_result r;
	int64_t i, n;
	int ends = 0;

	for (o.unordered = false;; o.unordered = true) {
		f = (struct numbers){ .n = 10000 };
		s = opened(&f, &o);
		for (ends = 0, i = 0; cop_stream_next(s, &r) == 1; i++) {
			n = r.how > 0 ? number_of(r.data, r.len) : *(const int64_t *)r.input;
			if (!o.unordered)
				T_EQ_INT(n, i);
			if (r.how < 0)
				T_CHECK(ends++ < 2 && (n == 3000 || n == 5001));
		}
		T_EQ_INT(ends, 2);
		T_EQ_INT(i, 10000);
		cop_stream_close(s);
		EXPECT_NOTHING();
		if (o.unordered)
			break;
	}
	/* every one crashes */
	d = DOES(.crash = -1);
	d.normal = AT(0);
	f = (struct numbers){ .n = 1 };
	s = opened(&f, &o);
	T_EQ_INT(got(s), -4);
	T_EQ_INT(got(s), -100);
	cop_stream_close(s);
	EXPECT_NOTHING();
}

NODE_CASE(time_outs_in_a_pool)
{
	struct doing d = DOES(.hang = AT(700));
	struct cop_stream_options o = { .pooled = true, .max_concurrency = 2, .ctx = &d, .timeout_ms = 100,
		.on_timeout = COP_TIMEOUT_KILL_TASK };
	struct numbers f = { .n = 2000 };
	struct cop_stream *s = opened(&f, &o);
	int64_t i;

	for (i = 0; i < 2000; i++)
		T_EQ_INT(got(s), i == 700 ? -3 : i);
	T_EQ_INT(got(s), -100);
	cop_stream_close(s);
	o.on_timeout = COP_TIMEOUT_EXIT;
	f = (struct numbers){ .n = 2000 };
	s = opened(&f, &o);
	for (i = 0; (got(s)) >= 0; i++)
		;
	T_CHECK(i <= 700);
	cop_stream_close(s);
	EXPECT_NOTHING();
}

NODE_CASE(a_pool_that_is_left_early)
{
	struct cop_stream_options o = { .pooled = true, .max_concurrency = 3 };
	struct numbers f;
	struct cop_stream *s;
	int64_t i, take;

	for (take = 1; take < 5000; take *= 4) {
		f = (struct numbers){ .n = INT64_MAX };
		s = opened(&f, &o);
		for (i = 0; i < take; i++)
			T_EQ_INT(got(s), i);
		cop_stream_close(s);
		T_EQ_INT(f.halted, 1);
		T_CHECK(f.at <= take + 8 * 512);
		EXPECT_NOTHING();
	}
}

static void kills_workers(void *arg)
{
	int i;

	(void)arg;
	for (i = 0; i < 20; i++) {
		kill_noted(&rig->pid[0]);
		cop_sleep(3);
	}
}

/* Killed from outside, at any instant: no element is lost, and few are given up. */
NODE_CASE(a_pool_whose_processes_are_killed)
{
	struct cop_stream_options o = { .pooled = true, .max_concurrency = 2 };
	int64_t n = 3000000 / RIG_HEAVY, i, ends = 0, value;
	struct numbers f = { .n = n };
	struct cop_stream *s = opened(&f, &o);
	cop_pid killer = spawned(kills_workers, NULL);

	for (i = 0; i < n; i++) {
		value = got(s);
		if (value == -2)
			ends++;
		else
			T_REQUIRE(value == i);
	}
	T_EQ_INT(got(s), -100);
	T_CHECK(ends <= 40);
	cop_stream_close(s);
	T_CHECK(gone(killer));
	EXPECT_NOTHING();
}

NODE_CASE_WITH(no_more_processes, .max_processes = 6)
{
	struct cop_stream_options o = { .max_concurrency = 20 };
	struct doing d = DOES(.slow = 100, .slow_ms = 100000);
	struct numbers f = { .n = 20 };
	struct cop_stream *s;

	o.pooled = true;
	expect_all((struct numbers){ .n = 1000 }, &o); /* those that there are will do */
	o.pooled = false;
	o.ctx = &d;
	s = opened(&f, &o);
	T_EQ_INT(got(s), -200 - EAGAIN);
	cop_stream_close(s);
	EXPECT_NOTHING();
}

NODE_CASE_WITH(a_small_quota, .quota = 262144)
{
	struct cop_stream_options o = { .max_concurrency = 3 };
	struct numbers f = { .n = 3, .pad = sizeof padding };
	struct cop_stream *s;

	for (o.pooled = false;; o.pooled = true) {
		f = (struct numbers){ .n = 3, .pad = sizeof padding };
		s = opened(&f, &o);
		T_CHECK(got(s) < -200);
		cop_stream_close(s);
		expect_all((struct numbers){ .n = 50, .pad = 30000 }, &o);
		EXPECT_NOTHING();
		if (o.pooled)
			break;
	}
}

T_MAIN(T_RUN(all_in_order), T_RUN(a_slow_one_holds_nobody_back), T_RUN(pulls_as_slots_are_free), T_RUN(early_end),
    T_RUN(time_outs), T_RUN(crashes), T_RUN(inputs_that_fail), T_RUN(inputs_that_say_seven),
    T_RUN(consumers_that_are_killed),
    T_RUN(the_monitor_process_is_killed), T_RUN(supervised), T_RUN(a_supervisor_with_a_limit), T_RUN(pools),
    T_RUN(values_in_a_pool), T_RUN(a_crash_costs_a_pool_one_element), T_RUN(time_outs_in_a_pool),
    T_RUN(a_pool_that_is_left_early), T_RUN(a_pool_whose_processes_are_killed), T_RUN(no_more_processes),
    T_RUN(a_small_quota))
