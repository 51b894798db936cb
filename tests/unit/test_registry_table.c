/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The table of a registry's partition by itself: every operation, and what a reader finds when the writer stands
 * still between any two of its instructions: then the reader must come to an end, with the truth before or
 * after the operation.
 */
#include "t.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include "otp/registry_table.h"

#define UNITS 64u

static void *area;

static void make_area(size_t size)
{
	area = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	T_REQUIRE(area != MAP_FAILED);
}

static struct table_term text(const char *s)
{
	return (struct table_term){ .data = s, .len = strlen(s), .type = COP_TERM_BYTES };
}

static uint32_t put(struct table *t, uint64_t pid, const char *key, const char *value)
{
	struct table_term k = text(key), v = text(value);

	return table_put(t, pid, &k, 0, &v);
}

/* What there is under a key: its value in buf. -1: the table is changing. */
static int get(const struct table_view *v, const char *key, char buf[256])
{
	struct table_term k = text(key);
	struct table_got got;
	int r = table_get(v, &k, (uint32_t)table_hash(&k), &got, buf, 255);

	buf[r == 1 ? got.value_len : 0] = '\0';
	return r;
}

static bool note(void *ctx, const struct table_copy *c)
{
	size_t *n = ctx;

	T_CHECK(c->key_len == 1 && c->value_len >= 1 && c->pid > 0 && c->pid < 9);
	++*n;
	return true;
}

/* How many entries a chain has, -1: it is changing. */
static int chain(const struct table_view *v, uint8_t which, uint32_t bucket)
{
	size_t n = 0;
	struct table_seek s = { .chain = which, .bucket = bucket, .found = note, .ctx = &n };

	return table_walk(v, &s) ? (int)n : -1;
}

/* --- one after the other --- */

T_CASE(units_are_used_again)
{
	struct table t;
	struct table_view v;
	struct table_term k = text("0"), value = { .type = COP_TERM_NIL, .data = "" };
	char buf[256], key[2] = "0";
	uint32_t i, index[UNITS + 1];
	int round;

	make_area(table_bytes(UNITS, 4));
	T_REQUIRE(table_init(&t, area, UNITS, 4, COP_UNIQUE));
	T_REQUIRE(table_look(&v, area, table_bytes(UNITS, 4)));
	for (round = 0; round < 3; round++) {
		for (i = 0; i < UNITS; i++) {
			key[0] = (char)('0' + i);
			index[i] = put(&t, 1 + i % 8, key, "v");
			T_CHECK(index[i] != 0);
		}
		T_EQ_INT(put(&t, 1, "x", "v"), 0);
		T_EQ_INT(atomic_load(v.count), UNITS);
		T_CHECK(table_find(&t, &k, 0, 0) == index[0] && table_replace(&t, index[0], &value) == 0);
		T_EQ_INT(get(&v, "5", buf), 1);
		T_EQ_STR(buf, "v");
		for (i = 0; i < UNITS; i++)
			table_remove(&t, index[(i * 7 + (uint32_t)round) % UNITS]);
		T_EQ_INT(t.live, 0);
		T_EQ_INT(get(&v, "5", buf), 0);
	}
	table_fini(&t);
}

T_CASE(what_makes_no_sense_is_no_table)
{
	struct table_view v;
	struct table_head *h;

	make_area(65536);
	h = area;
	T_CHECK(!table_look(&v, h, 65536));
	*h = (struct table_head){ .magic = TABLE_MAGIC, .n_units = 10, .n_buckets = 8 };
	T_CHECK(table_look(&v, h, 65536) && !table_look(&v, h, 200) && !table_look(&v, h, 10));
	h->n_buckets = 7;
	T_CHECK(!table_look(&v, h, 65536));
	h->n_buckets = 0;
	T_CHECK(!table_look(&v, h, 65536));
	h->n_buckets = 0x80000000u;
	T_CHECK(!table_look(&v, h, 65536));
	h->n_buckets = 8;
	h->n_units = UINT32_MAX;
	T_CHECK(!table_look(&v, h, 65536));
}

/* Whatever stands in the table, a reader stays in it and comes to an end. */
T_CASE(a_table_that_was_scribbled_over)
{
	size_t size = table_bytes(UNITS, 2), i;
	struct table_view v;
	struct table t;
	char buf[256], key[2] = "a";
	uint64_t x = 88172645463325252ull;
	long round;
	int k;

	make_area(size);
	T_REQUIRE(table_init(&t, area, UNITS, 2, COP_UNIQUE));
	T_REQUIRE(table_look(&v, area, size));
	for (k = 0; k < 20; k++) {
		key[0] = (char)('a' + k);
		put(&t, 3, key, "value");
	}
	for (round = 0; round < 300000; round++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		i = sizeof(struct table_head) + x % (size - sizeof(struct table_head));
		((unsigned char *)area)[i] = (unsigned char)(x >> 40 & (x & 0x80 ? 0xff : 0x1f));
		key[0] = (char)('a' + round % 20);
		(void)get(&v, key, buf);
		if (round % 50 == 0) { /* and the writer goes by what it has itself */
			struct table_term kt = text(key);
			uint32_t at = table_find(&t, &kt, 0, 0);

			if (at)
				table_remove(&t, at);
			(void)put(&t, 3, key, "value");
			(void)table_find_pid(&t, 3, 0);
		}
	}
	table_fini(&t);
}

/* --- between any two instructions --- */

#define PHASE ((_Atomic int *)area)
#define TABLE_AT ((char *)area + TABLE_UNIT)

enum { AT_PUT = 1, AT_REPLACE, AT_REMOVE, AT_AGAIN, AT_END };

/* "s" stays, first, in the middle and last of its chain; "k" comes, changes, goes, and comes again elsewhere. */
static _Noreturn void writer(void)
{
	struct table_term k = text("k"), longer = { .type = COP_TERM_BYTES, .data = "new", .len = 3 };
	struct table t;
	uint32_t at;

	if (!table_init(&t, TABLE_AT, UNITS, 1, COP_UNIQUE))
		_exit(3);
	put(&t, 1, "a", "a");
	put(&t, 1, "s", "stays");
	put(&t, 2, "b", "b");
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	raise(SIGSTOP);
	atomic_store(PHASE, AT_PUT);
	put(&t, 1, "k", "old");
	atomic_store(PHASE, AT_REPLACE);
	table_replace(&t, table_find(&t, &k, 0, 0), &longer);
	atomic_store(PHASE, AT_REMOVE);
	table_remove(&t, table_find(&t, &k, 0, 0));
	at = table_find(&t, &(struct table_term){ .type = COP_TERM_BYTES, .data = "a", .len = 1 }, 0, 0);
	table_remove(&t, at);
	atomic_store(PHASE, AT_AGAIN);
	put(&t, 2, "k", "2nd");
	put(&t, 3, "a", "a");
	atomic_store(PHASE, AT_END);
	_exit(0);
}

static void check(const struct table_view *v, int phase, long step)
{
	char k[256], s[256];
	int has_k = get(v, "k", k), has_s = get(v, "s", s), i;

	if (has_s != 1 || strcmp(s, "stays") != 0)
		T_FAIL("step %ld, phase %d: s: %d %s", step, phase, has_s, s);
	for (i = BY_KEY; i <= BY_PID; i++)
		if (chain(v, (uint8_t)i, 0) < 2)
			T_FAIL("step %ld, phase %d: chain %d has %d", step, phase, i, chain(v, (uint8_t)i, 0));
	if (has_k < 0 || (phase == AT_REPLACE && has_k == 0))
		T_FAIL("step %ld, phase %d: k: %d", step, phase, has_k);
	if (has_k == 1 && strcmp(k, "old") != 0 && strcmp(k, "new") != 0 && strcmp(k, "2nd") != 0)
		T_FAIL("step %ld, phase %d: k is %s", step, phase, k);
	if (has_k == 1 && ((phase == AT_PUT && strcmp(k, "old") != 0) || (phase == AT_AGAIN && strcmp(k, "2nd") != 0)))
		T_FAIL("step %ld, phase %d: k is %s", step, phase, k);
}

T_CASE(a_writer_that_stands_still_anywhere)
{
	struct table_view v;
	int status, phase;
	long steps = 0;
	pid_t pid;

	make_area(TABLE_UNIT + table_bytes(UNITS, 1));
	pid = fork();
	if (pid == 0)
		writer();
	T_REQUIRE(pid > 0 && waitpid(pid, &status, 0) == pid);
	if (!WIFSTOPPED(status)) {
		T_FAIL("unable to trace");
		return;
	}
	T_REQUIRE(table_look(&v, TABLE_AT, table_bytes(UNITS, 1)));
	while ((phase = atomic_load(PHASE)) != AT_END && t_failures < 10) {
		if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) < 0 || waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
			break;
		steps++;
		if (phase != 0)
			check(&v, atomic_load(PHASE), steps);
	}
	T_EQ_INT(phase, AT_END);
	T_CHECK(steps > 500);
	printf("# %ld steps\n", steps);
	ptrace(PTRACE_CONT, pid, NULL, NULL);
	waitpid(pid, &status, 0);
	T_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

T_MAIN(T_RUN(units_are_used_again), T_RUN(what_makes_no_sense_is_no_table), T_RUN(a_table_that_was_scribbled_over),
    T_RUN(a_writer_that_stands_still_anywhere))
