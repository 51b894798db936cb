/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* Registries: what is found and what not, terms and guards, names, listeners, deaths of everybody, growth. */
#include "node_rig.h"

#include <limits.h>

static cop_pid started(const char *name, enum cop_keys keys, int partitions)
{
	struct cop_registry r = { .name = name, .keys = (uint8_t)keys, .partitions = partitions };
	struct cop_started s;

	T_REQUIRE(cop_registry_start_link(&r, &s) == COP_STARTED);
	return s.pid;
}

static int enter(const char *r, const char *key, int64_t value)
{
	return cop_registry_register(r, cop_text(key), cop_int(value), NULL);
}

/* The value that a unique key has, -1: it has none. */
static int64_t value_at(const char *r, const char *key)
{
	struct cop_entries e;
	int64_t n = -1;

	if (cop_registry_lookup(r, cop_text(key), &e) == 1)
		n = e.entry[0].value.number;
	cop_entries_done(&e);
	return n;
}

static long found(const char *r, const char *key)
{
	struct cop_entries e;
	long n = cop_registry_lookup(r, cop_text(key), &e);

	if (n >= 0)
		cop_entries_done(&e);
	return n;
}

/* --- a process that does it --- */

enum { DONE = 7 };
static const char *enterer_key;
static bool enterer_traps;

/* Registers in r, or not, and says so; then waits. */
static void enterer(void *arg)
{
	cop_trap_exit(enterer_traps);
	tell_int(cop_parent(), DONE, enter(arg, enterer_key, 1) == 0 ? 0 : errno);
	waits(NULL);
}

static cop_pid entered(const char *r, const char *key, bool traps, int64_t want)
{
	cop_pid p;

	enterer_key = key;
	enterer_traps = traps;
	p = spawned(enterer, r);
	T_EQ_INT(await_int(DONE), want);
	return p;
}

static cop_pid partition(const char *r, int i)
{
	char name[COP_NAME_MAX];

	snprintf(name, sizeof name, "%s/%d", r, i);
	return cop_whereis(name);
}

/* --- unique keys --- */

NODE_CASE(unique_keys)
{
	struct cop_entries e;
	cop_pid holder, p;

	started("r", COP_UNIQUE, 1);
	T_EQ_INT(enter("r", "k", 1), 0);
	T_CHECK(cop_registry_register("r", cop_text("k"), cop_nil(), &holder) < 0 && errno == EEXIST);
	T_CHECK(cop_pid_is(holder, cop_self()));
	p = entered("r", "k", false, EEXIST);
	T_EQ_INT(enter("r", "l", 2), 0);
	T_EQ_INT(cop_registry_count("r"), 2);
	T_EQ_INT(value_at("r", "k"), 1);
	T_EQ_INT(value_at("r", "l"), 2);
	T_EQ_INT(found("r", "m"), 0);
	T_EQ_INT(cop_registry_keys("r", cop_self(), &e), 2);
	T_CHECK(e.entry[0].key.len == 1 && e.entry[0].key.type == COP_TERM_BYTES);
	cop_entries_done(&e);
	T_EQ_INT(cop_registry_keys("r", p, &e), 0);
	T_EQ_INT(cop_registry_keys("r", COP_NOPID, &e), 0);
	T_EQ_INT(cop_registry_unregister("r", cop_text("k")), 0);
	T_EQ_INT(cop_registry_unregister("r", cop_text("k")), 0);
	T_EQ_INT(found("r", "k"), 0);
	T_EQ_INT(cop_registry_count("r"), 1);
	p = entered("r", "k", false, 0);
	T_EQ_INT(cop_registry_unregister("r", cop_text("k")), 0); /* another's */
	T_CHECK(cop_pid_is(cop_registry_whereis("r", cop_text("k")), p));
	T_EQ_INT(cop_registry_unregister("r", cop_text("l")), 0);
	EXPECT_NOTHING();
}

static struct cop_term add_five(void *ctx, struct cop_term old)
{
	*(int64_t *)ctx = old.number;
	return cop_int(old.number + 5);
}

static struct cop_term lengthen(void *ctx, struct cop_term old)
{
	static char text[5000];

	(void)old;
	memset(text, 'x', sizeof text);
	return cop_bytes(text, *(size_t *)ctx);
}

NODE_CASE(update_value)
{
	size_t sizes[] = { 0, 1, 31, 32, 33, 96, 1000, COP_VALUE_MAX }, i, size;
	struct cop_entries e;
	int64_t old;

	started("r", COP_UNIQUE, 2);
	started("d", COP_DUPLICATE, 1);
	T_EQ_INT(enter("r", "k", 10), 0);
	T_EQ_INT(cop_registry_update_value("r", cop_text("k"), add_five, &old), 0);
	T_EQ_INT(old, 10);
	T_EQ_INT(value_at("r", "k"), 15);
	T_CHECK(cop_registry_update_value("r", cop_text("x"), add_five, &old) < 0 && errno == EPERM);
	entered("r", "o", false, 0);
	T_CHECK(cop_registry_update_value("r", cop_text("o"), add_five, &old) < 0 && errno == EPERM);
	T_EQ_INT(enter("d", "k", 1), 0);
	T_CHECK(cop_registry_update_value("d", cop_text("k"), add_five, &old) < 0 && errno == EINVAL);
	for (i = 0; i < 2000; i++) {
		size = sizes[i % 8];
		T_REQUIRE(cop_registry_update_value("r", cop_text("k"), lengthen, &size) == 0);
		T_REQUIRE(cop_registry_lookup("r", cop_text("k"), &e) == 1);
		T_REQUIRE(e.entry[0].value.len == size && (size == 0 || ((const char *)e.entry[0].value.data)[size - 1] == 'x'));
		cop_entries_done(&e);
	}
	size = COP_VALUE_MAX + 1;
	T_CHECK(cop_registry_update_value("r", cop_text("k"), lengthen, &size) < 0 && errno == EMSGSIZE);
	T_EQ_INT(cop_registry_count("r"), 2);
}

/* --- terms --- */

NODE_CASE(keys_of_every_type_and_length)
{
	static char bytes[COP_KEY_MAX + 1];
	cop_pid self = cop_self();
	size_t len;

	started("r", COP_UNIQUE, 3);
	T_EQ_INT(cop_registry_register("r", cop_int(1), cop_int(1), NULL), 0);
	T_EQ_INT(cop_registry_register("r", cop_text("1"), cop_int(2), NULL), 0);
	T_EQ_INT(cop_registry_register("r", cop_nil(), cop_int(3), NULL), 0);
	T_EQ_INT(cop_registry_register("r", cop_pid_term(self), cop_int(4), NULL), 0);
	T_EQ_INT(cop_registry_register("r", cop_int((int64_t)self.id), cop_int(5), NULL), 0);
	T_EQ_INT(cop_registry_register("r", cop_bytes(&self, sizeof self), cop_int(6), NULL), 0);
	memset(bytes, 'k', sizeof bytes);
	for (len = 0; len <= COP_KEY_MAX; len++)
		T_EQ_INT(cop_registry_register("r", cop_bytes(bytes, len), cop_int((int64_t)len), NULL), 0);
	T_CHECK(cop_registry_register("r", cop_bytes(bytes, COP_KEY_MAX + 1), cop_nil(), NULL) < 0 && errno == EMSGSIZE);
	T_EQ_INT(cop_registry_count("r"), 6 + COP_KEY_MAX + 1);
	for (len = 0; len <= COP_KEY_MAX; len++) {
		struct cop_entries e;

		T_EQ_INT(cop_registry_lookup("r", cop_bytes(bytes, len), &e), 1);
		T_EQ_INT(e.entry[0].value.number, len);
		T_CHECK(cop_term_compare(e.entry[0].key, cop_bytes(bytes, len)) == 0);
		cop_entries_done(&e);
	}
	T_CHECK(cop_term_compare(cop_int(1), cop_text("1")) < 0 && cop_term_compare(cop_text("a"), cop_text("ab")) < 0);
	T_CHECK(cop_term_compare(cop_nil(), cop_int(5)) > 0 && cop_term_compare(cop_int(-1), cop_int(1)) < 0);
}

/* --- duplicate keys --- */

static struct {
	int calls;
	size_t n;
} dispatched;

static void count_calls(void *ctx, const struct cop_entry *entries, size_t n)
{
	(void)ctx;
	T_CHECK(n > 0 && entries[0].pid.id != 0);
	dispatched.calls++;
	dispatched.n += n;
}

static void duplicates(int partitions)
{
	struct cop_entries e;
	cop_pid p[8];
	int i;

	started("d", COP_DUPLICATE, partitions);
	for (i = 0; i < 3; i++)
		T_EQ_INT(enter("d", "k", i % 2), 0);
	for (i = 0; i < 8; i++)
		p[i] = entered("d", "k", false, 0);
	T_EQ_INT(found("d", "k"), 11);
	T_EQ_INT(cop_registry_count("d"), 11);
	T_EQ_INT(cop_registry_values("d", cop_text("k"), cop_self(), &e), 3);
	cop_entries_done(&e);
	T_EQ_INT(cop_registry_keys("d", p[3], &e), 1);
	cop_entries_done(&e);
	dispatched.calls = 0;
	dispatched.n = 0;
	T_EQ_INT(cop_registry_dispatch("d", cop_text("k"), count_calls, NULL), dispatched.calls);
	T_CHECK(dispatched.calls >= 1 && dispatched.calls <= partitions && dispatched.n == 11);
	T_EQ_INT(cop_registry_dispatch("d", cop_text("x"), count_calls, NULL), 0);
	T_EQ_INT(cop_registry_unregister("d", cop_text("k")), 0);
	T_EQ_INT(found("d", "k"), 8);
	T_CHECK(cop_registry_whereis("d", cop_text("k")).id == 0 && errno == EINVAL);
	for (i = 0; i < 8; i++)
		cop_kill(p[i]);
	EVENTUALLY(cop_registry_count("d") == 0);
	T_EQ_INT(found("d", "k"), 0);
}

NODE_CASE(duplicate_keys)
{
	duplicates(1);
}

NODE_CASE(duplicate_keys_in_partitions)
{
	duplicates(5);
}

/* --- match specifications --- */

static long matching(const struct cop_expr *guard)
{
	struct cop_match m = { .guard = guard };
	struct cop_entries e;
	long n = cop_registry_select("d", &m, 1, &e);

	if (n < 0)
		return -errno;
	cop_entries_done(&e);
	T_EQ_INT(cop_registry_count_select("d", &m, 1), n);
	return n;
}

#define N(n) COP_LIT(cop_int(n))
#define IS(op, a, b, want) T_EQ_INT(matching(COP_OP(COP_X_EQ, COP_OP(op, N(a), N(b)), N(want))), 6)
#define BAD(op, a, b) T_EQ_INT(matching(COP_OP(COP_X_EQ, COP_OP(op, N(a), N(b)), COP_OP(op, N(a), N(b)))), 0)

NODE_CASE(match_and_select)
{
	struct cop_term two = cop_int(2), word = cop_text("word");
	struct cop_match specs[2] = { { .value = &two }, { .value = &word } };
	struct cop_entries e;
	cop_pid self = cop_self();
	int64_t i;

	started("d", COP_DUPLICATE, 2);
	for (i = 1; i <= 4; i++)
		T_EQ_INT(cop_registry_register("d", cop_text(i < 3 ? "low" : "high"), cop_int(i), NULL), 0);
	T_EQ_INT(cop_registry_register("d", cop_text("low"), word, NULL), 0);
	T_EQ_INT(cop_registry_register("d", word, word, NULL), 0);
	T_EQ_INT(cop_registry_match("d", cop_text("low"), &specs[0], &e), 1);
	cop_entries_done(&e);
	T_EQ_INT(cop_registry_count_match("d", cop_text("high"), &specs[0]), 0);
	T_EQ_INT(cop_registry_select("d", specs, 2, &e), 3);
	T_CHECK(e.entry[0].spec + e.entry[1].spec + e.entry[2].spec == 2);
	cop_entries_done(&e);
	T_EQ_INT(cop_registry_select("d", NULL, 0, &e), 0);
	T_EQ_INT(cop_registry_select("d", &(struct cop_match){ .pid = &self }, 1, &e), 6);
	cop_entries_done(&e);
	T_EQ_INT(matching(NULL), 6);
	T_EQ_INT(matching(COP_OP(COP_X_EQ, COP_KEY, COP_VALUE)), 1);
	T_EQ_INT(matching(COP_OP(COP_X_EQ, COP_PID, COP_SELF)), 6);
	T_EQ_INT(matching(COP_OP(COP_X_IS_INTEGER, COP_VALUE)), 4);
	T_EQ_INT(matching(COP_OP(COP_X_IS_BINARY, COP_VALUE)), 2);
	T_EQ_INT(matching(COP_OP(COP_X_IS_NIL, COP_VALUE)), 0);
	T_EQ_INT(matching(COP_OP(COP_X_IS_PID, COP_PID)), 6);
	T_EQ_INT(matching(COP_OP(COP_X_GT, COP_VALUE, N(2))), 4); /* bytes are greater than numbers */
	T_EQ_INT(matching(COP_OP(COP_X_ANDALSO, COP_OP(COP_X_IS_INTEGER, COP_VALUE),
	    COP_OP(COP_X_EQ, COP_OP(COP_X_REM, COP_VALUE, N(2)), N(0)))), 2);
	T_EQ_INT(matching(COP_OP(COP_X_EQ, COP_OP(COP_X_REM, COP_VALUE, N(2)), N(0))), 2); /* of words: false */
	T_EQ_INT(matching(COP_OP(COP_X_NOT, COP_OP(COP_X_EQ, COP_OP(COP_X_REM, COP_VALUE, N(2)), N(0)))), 2);
	T_EQ_INT(matching(COP_OP(COP_X_PREFIX, COP_KEY, COP_LIT(cop_text("h")))), 2);
	T_EQ_INT(matching(COP_OP(COP_X_EQ, COP_OP(COP_X_BYTE_SIZE, COP_KEY), N(3))), 3);
	T_EQ_INT(matching(COP_OP(COP_X_ORELSE, COP_OP(COP_X_EQ, COP_VALUE, N(1)), COP_OP(COP_X_EQ, COP_VALUE, N(4)))), 2);
	T_EQ_INT(matching(COP_OP(COP_X_XOR, COP_OP(COP_X_LT, COP_VALUE, N(3)), COP_OP(COP_X_LE, COP_VALUE, N(1)))), 1);
	T_EQ_INT(matching(COP_VALUE), 0); /* no truth */
	IS(COP_X_ADD, 2, 3, 5);
	IS(COP_X_SUB, 2, 3, -1);
	IS(COP_X_MUL, -2, 3, -6);
	IS(COP_X_DIV, -7, 2, -3);
	IS(COP_X_REM, -7, 2, -1);
	IS(COP_X_REM, INT64_MIN, -1, 0);
	IS(COP_X_BAND, 12, 10, 8);
	IS(COP_X_BOR, 12, 10, 14);
	IS(COP_X_BXOR, 12, 10, 6);
	IS(COP_X_BSL, 3, 4, 48);
	IS(COP_X_BSL, -3, 4, -48);
	IS(COP_X_BSL, 48, -4, 3);
	IS(COP_X_BSR, -1, 200, -1);
	IS(COP_X_BSR, 48, -1, 96);
	IS(COP_X_BSL, 0, 5000, 0);
	BAD(COP_X_ADD, INT64_MAX, 1);
	BAD(COP_X_MUL, INT64_MIN, -1);
	BAD(COP_X_DIV, 1, 0);
	BAD(COP_X_REM, 1, 0);
	BAD(COP_X_DIV, INT64_MIN, -1);
	BAD(COP_X_BSL, 1, 63);
	BAD(COP_X_BSR, 1, INT64_MIN);
	T_EQ_INT(matching(COP_OP(COP_X_EQ, COP_OP(COP_X_ABS, N(INT64_MIN)), N(0))), 0);
	T_EQ_INT(matching(COP_OP(COP_X_NOT, COP_OP(COP_X_NE, COP_OP(COP_X_BNOT, N(0)), N(-1)))), 6);
}

NODE_CASE(guards_that_make_no_sense)
{
	struct cop_expr deep[40], odd = { .op = COP_X_END }, half = { .op = COP_X_EQ, .a = COP_VALUE };
	const struct cop_expr *value = COP_VALUE; /* lives as long as this block */
	size_t i;

	started("d", COP_DUPLICATE, 1);
	T_EQ_INT(matching(&odd), -EINVAL);
	T_EQ_INT(matching(&half), -EINVAL);
	for (i = 0; i < 40; i++)
		deep[i] = (struct cop_expr){ .op = COP_X_NOT, .a = i < 39 ? &deep[i + 1] : value };
	T_EQ_INT(matching(deep), -EINVAL);
	T_EQ_INT(matching(deep + 10), 0);
}

NODE_CASE(unregister_match)
{
	struct cop_term one = cop_int(1);
	struct cop_match ones = { .value = &one }, big = { .guard = COP_OP(COP_X_GE, COP_VALUE, N(3)) };
	int64_t i;

	started("d", COP_DUPLICATE, 2);
	for (i = 0; i < 8; i++)
		T_EQ_INT(enter("d", "k", i % 5), 0);
	entered("d", "k", false, 0); /* another's 1 stays */
	T_EQ_INT(cop_registry_unregister_match("d", cop_text("k"), &ones), 0);
	T_EQ_INT(cop_registry_count_match("d", cop_text("k"), &ones), 1);
	T_EQ_INT(cop_registry_count("d"), 7);
	T_EQ_INT(cop_registry_unregister_match("d", cop_text("k"), &big), 0);
	T_EQ_INT(cop_registry_count("d"), 5);
	T_EQ_INT(cop_registry_unregister_match("d", cop_text("x"), &big), 0);
	T_EQ_INT(cop_registry_unregister_match("d", cop_text("k"), &(struct cop_match){ 0 }), 0);
	T_EQ_INT(cop_registry_count("d"), 1);
}

/* --- what else is kept --- */

NODE_CASE(meta)
{
	struct cop_registry_meta first[2] = { { cop_text("a"), cop_int(1) }, { cop_int(2), cop_text("two") } };
	struct cop_registry r = { .name = "r", .partitions = 3, .meta = first, .n_meta = 2 };
	struct cop_started s;
	struct cop_entries e;

	T_REQUIRE(cop_registry_start_link(&r, &s) == COP_STARTED);
	T_EQ_INT(cop_registry_meta("r", cop_text("a"), &e), 1);
	T_EQ_INT(e.entry[0].value.number, 1);
	cop_entries_done(&e);
	T_EQ_INT(cop_registry_meta("r", cop_int(2), &e), 1);
	T_CHECK(cop_term_compare(e.entry[0].value, cop_text("two")) == 0);
	cop_entries_done(&e);
	T_EQ_INT(cop_registry_meta("r", cop_text("b"), &e), 0);
	T_EQ_INT(cop_registry_put_meta("r", cop_text("b"), cop_nil()), 0);
	T_EQ_INT(cop_registry_put_meta("r", cop_text("a"), cop_int(7)), 0);
	T_EQ_INT(cop_registry_meta("r", cop_text("a"), &e), 1);
	T_EQ_INT(e.entry[0].value.number, 7);
	cop_entries_done(&e);
	T_EQ_INT(cop_registry_count("r"), 0);
	T_EQ_INT(found("r", "a"), 0);
	T_EQ_INT(cop_registry_select("r", &(struct cop_match){ 0 }, 1, &e), 0);
	T_EQ_INT(enter("r", "a", 9), 0); /* has nothing to do with it */
	T_EQ_INT(cop_registry_delete_meta("r", cop_text("a")), 0);
	T_EQ_INT(cop_registry_delete_meta("r", cop_text("a")), 0);
	T_EQ_INT(cop_registry_meta("r", cop_text("a"), &e), 0);
	T_EQ_INT(value_at("r", "a"), 9);
}

static void expect_event(uint8_t what, const char *key, int64_t value)
{
	struct cop_msg m = rig_await(&(struct rig_want){ COP_MSG_PLAIN, .tag = COP_TAG_REGISTRY }, "an event", __LINE__);
	struct cop_registry_event e;

	T_REQUIRE(cop_registry_event_read(&m, &e) == 0);
	T_EQ_INT(e.what, what);
	T_EQ_STR(e.registry, "r");
	T_CHECK(cop_term_compare(e.key, cop_text(key)) == 0);
	T_CHECK(value < 0 ? e.value.type == COP_TERM_NIL : e.value.number == value);
	T_CHECK(cop_pid_is(e.pid, cop_self()));
	cop_msg_done(&m);
}

NODE_CASE(listeners)
{
	const char *names[] = { "ear", "other" };
	struct cop_registry r = { .name = "r", .keys = COP_DUPLICATE, .listeners = names, .n_listeners = 1 };
	struct cop_term one = cop_int(1);
	struct cop_match ones = { .value = &one };
	struct cop_started s;

	T_REQUIRE(cop_registry_start_link(&r, &s) == COP_STARTED);
	T_CHECK(enter("r", "k", 1) < 0 && errno == EIO); /* nobody listens; it is stored */
	T_EQ_INT(cop_registry_count("r"), 1);
	T_EQ_INT(cop_register("ear", cop_self()), 0);
	T_EQ_INT(enter("r", "k", 2), 0);
	expect_event(COP_REGISTERED, "k", 2);
	T_EQ_INT(cop_registry_unregister_match("r", cop_text("k"), &ones), 0);
	EXPECT_NOTHING(); /* one is left */
	T_EQ_INT(cop_registry_unregister_match("r", cop_text("k"), &(struct cop_match){ 0 }), 0);
	expect_event(COP_UNREGISTERED, "k", -1);
	T_EQ_INT(cop_registry_unregister("r", cop_text("x")), 0);
	expect_event(COP_UNREGISTERED, "x", -1);
	EXPECT_NOTHING();
}

/* --- names --- */

static struct cop_next counter_call(void *state, const struct cop_msg *m, struct cop_from from)
{
	int64_t *n = state;

	(void)from;
	if (m->tag == 9)
		exit_with("oops");
	++*n;
	return cop_reply(n, sizeof *n);
}

static struct cop_next fails_once(void *state, const void *arg, size_t size)
{
	struct cop_exit r = reason("not_now");

	(void)state;
	(void)arg;
	(void)size;
	return atomic_fetch_add(&rig->count, 1) == 0 ? cop_stop(&r) : cop_ok();
}

static const struct cop_server_ops counter = { .name = "counter", .state_size = 8, .handle_call = counter_call };
static const struct cop_server_ops late_counter = { .state_size = 8, .handle_call = counter_call, .init = fails_once };

static int64_t count(const struct cop_via *via)
{
	int64_t n = -1;

	return cop_server_ask(cop_via(via), 1, NULL, 0, &n, sizeof n, RIG_MS, NULL) == 0 ? n : -errno;
}

NODE_CASE(a_server_by_its_key)
{
	struct cop_via via = { "r", cop_text("c"), cop_int(77) }, nowhere = { "nope", cop_text("c"), cop_nil() };
	struct cop_via same = { "d", cop_text("c"), cop_nil() };
	struct cop_server_options o = { .via = &via };
	struct cop_started s, t;
	cop_ref m;

	cop_trap_exit(true);
	started("r", COP_UNIQUE, 2);
	started("d", COP_DUPLICATE, 1);
	T_EQ_INT(count(&via), -ENOENT);
	T_CHECK(cop_send(cop_via(&via), 1, NULL, 0) < 0 && errno == ENOENT);
	T_EQ_INT(cop_server_cast(cop_via(&via), 1, NULL, 0), 0);
	T_EQ_INT(cop_server_start(&late_counter, &o, &s), COP_NOT_STARTED); /* and the name is free at once */
	T_EQ_INT(cop_server_start(&late_counter, &o, &s), COP_STARTED);
	T_CHECK(cop_pid_is(cop_registry_whereis("r", cop_text("c")), s.pid));
	T_EQ_INT(value_at("r", "c"), 77);
	T_EQ_INT(count(&via), 1);
	T_EQ_INT(count(&via), 2);
	T_EQ_INT(cop_server_start(&counter, &o, &t), COP_NOT_STARTED);
	T_EQ_STR(text_of(t.reason), "already_started");
	T_CHECK(errno == EEXIST && cop_pid_is(t.pid, s.pid));
	m = cop_monitor(cop_via(&via));
	T_EQ_INT(cop_server_stop(cop_via(&via), NULL, RIG_MS, NULL), 0);
	EXPECT_DOWN(m, "normal");
	T_EQ_INT(count(&via), -ENOENT);
	m = cop_monitor(cop_via(&via));
	EXPECT_DOWN(m, "noproc");
	T_EQ_INT(cop_server_start(&counter, &o, &s), COP_STARTED);
	T_EQ_INT(count(&via), 1);
	o.via = &nowhere;
	T_EQ_INT(cop_server_start(&counter, &o, &t), COP_NOT_STARTED);
	T_EQ_STR(text_of(t.reason), "unknown_registry");
	o.via = &same;
	T_EQ_INT(cop_server_start(&counter, &o, &t), COP_NOT_STARTED);
	T_EQ_STR(text_of(t.reason), "bad_name");
}

NODE_CASE(children_by_their_keys)
{
	struct cop_via via = { "r", cop_text("c"), cop_text("a value that is longer") };
	struct cop_registry spec = { .name = "r" };
	struct cop_supervisor *registry = cop_registry_supervisor(&spec);
	struct cop_child kids[] = { { .id = "r", .supervisor = registry }, { .id = "c", .server = &counter, .via = &via } };
	struct cop_supervisor sup = { .strategy = COP_REST_FOR_ONE, .children = kids, .n_children = 2, .max_restarts = 20 };
	struct cop_child more = { .id = "d", .server = &counter };
	struct cop_via other = { "r", cop_int(5), cop_nil() };
	struct cop_started s;
	cop_pid p, top;

	T_REQUIRE(registry && cop_supervisor_start_link(&sup, &s) == COP_STARTED);
	top = s.pid;
	free(registry);
	T_EQ_INT(count(&via), 1);
	p = cop_registry_whereis("r", cop_text("c"));
	cop_kill(p);
	EVENTUALLY(count(&via) > 0);
	T_CHECK(!cop_pid_is(p, cop_registry_whereis("r", cop_text("c"))));
	more.via = &other;
	T_EQ_INT(cop_supervisor_start_child(cop_to(top), &more, &s), COP_STARTED);
	T_CHECK(cop_pid_is(cop_registry_whereis("r", cop_int(5)), s.pid));
	p = cop_whereis("r"); /* the registry as a whole: all begins anew */
	cop_kill(p);
	EVENTUALLY(cop_whereis("r").id != 0 && !cop_pid_is(cop_whereis("r"), p) && count(&via) > 0);
	EVENTUALLY(count(&other) > 0);
	T_EQ_INT(cop_server_stop(cop_to(top), NULL, RIG_MS, NULL), 0);
	T_EQ_INT(found("r", "c"), -1);
	T_EQ_INT(errno, ENOENT);
}

/* --- deaths --- */

NODE_CASE(a_dead_holder_fools_nobody)
{
	int round;
	cop_pid p;

	started("r", COP_UNIQUE, 1);
	for (round = 0; round < 50; round++) {
		p = entered("r", "k", false, 0);
		T_CHECK(gone((cop_kill(p), p)));
		T_EQ_INT(cop_registry_whereis("r", cop_text("k")).id, 0);
		T_EQ_INT(enter("r", "k", round), 0);
		T_EQ_INT(value_at("r", "k"), round);
		T_EQ_INT(cop_registry_count("r"), 1);
		T_EQ_INT(cop_registry_unregister("r", cop_text("k")), 0);
	}
	EVENTUALLY(cop_registry_count("r") == 0);
}

NODE_CASE(the_link_works_both_ways)
{
	cop_pid a, b, c, old;
	cop_ref ma, mc;

	cop_trap_exit(true);
	started("r", COP_UNIQUE, 1);
	a = entered("r", "a", false, 0);
	b = entered("r", "b", true, 0);
	c = spawned(waits, NULL);
	ma = monitored(a);
	mc = monitored(c);
	old = partition("r", 0);
	T_EQ_INT(enter("r", "mine", 1), 0);
	T_EQ_INT(cop_registry_unregister("r", cop_text("mine")), 0);
	cop_kill(old);
	EXPECT_DOWN(ma, "killed");
	EVENTUALLY(cop_registry_count("r") == 0);
	T_CHECK(!cop_pid_is(partition("r", 0), old));
	T_CHECK(cop_is_alive(b) && cop_is_alive(c));
	EXPECT_NOTHING(); /* nothing of a link that was undone */
	T_EQ_INT(enter("r", "a", 5), 0);
	T_EQ_INT(value_at("r", "a"), 5);
	T_EQ_INT(cop_server_stop(cop_named("r"), NULL, RIG_MS, NULL), 0);
	EXPECT_EXIT(COP_NOPID, "shutdown");
	T_EQ_INT(found("r", "a"), -1);
	cop_kill(c);
	EXPECT_DOWN(mc, "killed");
}

/* Registers and unregisters in r; then waits, and does not trap exits. */
static void comes_and_goes(void *arg)
{
	T_EQ_INT(enter(arg, "a", 1), 0);
	T_EQ_INT(enter(arg, "b", 1), 0);
	T_EQ_INT(cop_registry_unregister(arg, cop_text("a")), 0);
	T_EQ_INT(cop_registry_unregister(arg, cop_text("b")), 0);
	tell(cop_parent(), DONE);
	waits(NULL);
}

NODE_CASE(the_last_entry_takes_the_link_with_it)
{
	cop_pid p, old;

	started("r", COP_UNIQUE, 1);
	p = spawned(comes_and_goes, "r");
	EXPECT_TAG(DONE);
	old = partition("r", 0);
	cop_kill(old);
	EVENTUALLY(cop_registry_count("r") == 0 && !cop_pid_is(partition("r", 0), old));
	T_CHECK(cop_is_alive(p));
}

/* Nobody who only looks waits for a partition that does nothing. */
NODE_CASE(a_stopped_partition_stops_no_reader)
{
	int os_pid, i;
	cop_pid p;

	started("r", COP_UNIQUE, 1);
	for (i = 0; i < 100; i++) {
		p = entered("r", "k", false, 0);
		os_pid = cop_os_pid(partition("r", 0));
		T_EQ_INT(kill(os_pid, SIGSTOP), 0);
		T_EQ_INT(value_at("r", "k"), 1);
		T_EQ_INT(cop_registry_count("r"), 1);
		T_CHECK(cop_pid_is(cop_registry_whereis("r", cop_text("k")), p));
		T_CHECK(gone((cop_kill(p), p)));
		T_CHECK(cop_registry_whereis("r", cop_text("k")).id == 0);
		T_EQ_INT(kill(os_pid, SIGCONT), 0);
	}
	EVENTUALLY(cop_registry_count("r") == 0);
}

NODE_CASE(no_such_registry)
{
	static const char longest[] = "a123456789b123456789c123456789d123456789e123456789f123456", longer[] =
	    "a123456789b123456789c123456789d123456789e123456789f1234567";
	const char *names[] = { "nope", "", longer, "server" }, *bad_listener = "";
	static const struct cop_registry_meta bad_meta = { .key = { .type = 9 } };
	struct cop_registry bad[] = {
		{ .name = "" }, { .name = longer }, { .name = NULL }, { .name = "r", .keys = 2 }, { .name = "r", .partitions = -2 },
		{ .name = "r", .n_listeners = 1, .listeners = &bad_listener }, { .name = "r", .n_meta = 17 },
		{ .name = "r", .n_listeners = 1 }, { .name = "r", .n_meta = 1 },
		{ .name = "r", .n_meta = 1, .meta = &bad_meta },
	};
	struct cop_started s;
	struct cop_entries e;
	size_t i;

	T_REQUIRE(cop_server_start(&counter, &(struct cop_server_options){ .name = "server" }, &s) == COP_STARTED);
	for (i = 0; i < 4; i++) {
		T_CHECK(enter(names[i], "k", 1) < 0 && errno == ENOENT);
		T_CHECK(found(names[i], "k") < 0 && errno == ENOENT);
		T_CHECK(cop_registry_count(names[i]) < 0 && errno == ENOENT);
		T_CHECK(cop_registry_unregister(names[i], cop_text("k")) < 0 && errno == ENOENT);
		T_CHECK(cop_registry_select(names[i], NULL, 0, &e) < 0 && errno == ENOENT);
		T_CHECK(cop_registry_dispatch(names[i], cop_text("k"), count_calls, NULL) < 0 && errno == ENOENT);
		T_CHECK(cop_registry_whereis(names[i], cop_text("k")).id == 0);
	}
	for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		T_EQ_INT(cop_registry_start_link(&bad[i], &s), COP_NOT_STARTED);
		T_EQ_INT(errno, EINVAL);
	}
	started(longest, COP_UNIQUE, 40);
	T_EQ_INT(enter(longest, "k", 3), 0);
	T_EQ_INT(value_at(longest, "k"), 3);
	T_EQ_INT(cop_registry_start_link(&(struct cop_registry){ .name = longest }, &s), COP_NOT_STARTED);
	T_EQ_STR(text_of(s.reason), "already_started");
}

NODE_CASE(terms_of_no_type)
{
	struct cop_term bad = { .type = COP_TERM_BYTES + 1 };
	struct cop_entries e;

	started("r", COP_UNIQUE, 1);
	T_EQ_INT(enter("r", "k", 1), 0);
	T_CHECK(cop_registry_register("r", bad, cop_nil(), NULL) < 0 && errno == EINVAL);
	T_CHECK(cop_registry_register("r", cop_nil(), bad, NULL) < 0 && errno == EINVAL);
	T_CHECK(cop_registry_unregister("r", bad) < 0 && errno == EINVAL);
	T_CHECK(cop_registry_put_meta("r", bad, cop_nil()) < 0 && errno == EINVAL);
	T_CHECK(cop_registry_lookup("r", bad, &e) < 0 && errno == EINVAL);
	T_CHECK(cop_registry_values("r", bad, cop_self(), &e) < 0 && errno == EINVAL);
	T_EQ_INT(cop_registry_count("r"), 1);
	T_EQ_INT(value_at("r", "k"), 1);
}

static struct cop_started no_start;
static struct cop_entries no_entries;

OUTSIDE(starts, (void)!cop_registry_start_link(&(struct cop_registry){ .name = "r" }, &no_start))
OUTSIDE(registers, (void)!cop_registry_register("r", cop_int(1), cop_nil(), NULL))
OUTSIDE(unregisters, (void)cop_registry_unregister("r", cop_int(1)))
OUTSIDE(updates, (void)!cop_registry_update_value("r", cop_int(1), NULL, NULL))
OUTSIDE(looks_up, (void)!cop_registry_lookup("r", cop_int(1), &no_entries))
OUTSIDE(asks_keys, (void)!cop_registry_keys("r", COP_NOPID, &no_entries))
OUTSIDE(asks_count, (void)cop_registry_count("r"))
OUTSIDE(asks_whereis, (void)cop_registry_whereis("r", cop_int(1)))
OUTSIDE(dispatches, (void)cop_registry_dispatch("r", cop_int(1), NULL, NULL))
OUTSIDE(selects, (void)!cop_registry_select("r", NULL, 0, &no_entries))
OUTSIDE(unregisters_match, (void)cop_registry_unregister_match("r", cop_int(1), &(struct cop_match){ .guard = NULL }))
OUTSIDE(puts_meta, (void)cop_registry_put_meta("r", cop_int(1), cop_nil()))

T_CASE(outside_of_a_node)
{
	T_EQ_STR(outside(starts), "cop_registry_start_link");
	T_EQ_STR(outside(registers), "cop_registry_register");
	T_EQ_STR(outside(unregisters), "cop_registry_unregister");
	T_EQ_STR(outside(updates), "cop_registry_update_value");
	T_EQ_STR(outside(looks_up), "cop_registry_lookup");
	T_EQ_STR(outside(asks_keys), "cop_registry_keys");
	T_EQ_STR(outside(asks_count), "cop_registry_count");
	T_EQ_STR(outside(asks_whereis), "cop_registry_whereis");
	T_EQ_STR(outside(dispatches), "cop_registry_dispatch");
	T_EQ_STR(outside(selects), "cop_registry_select");
	T_EQ_STR(outside(unregisters_match), "cop_registry_unregister_match");
	T_EQ_STR(outside(puts_meta), "cop_registry_put_meta");
}

/* --- many --- */

NODE_CASE(a_table_grows_and_is_used_again)
{
	int64_t i, n = 20000, round;
	struct cop_entries e;

	started("r", COP_UNIQUE, 1);
	for (round = 0; round < 2; round++) {
		for (i = 0; i < n; i++)
			T_REQUIRE(cop_registry_register("r", cop_int(i), cop_int(i + round), NULL) == 0);
		T_EQ_INT(cop_registry_count("r"), n);
		for (i = 0; i < n; i++) {
			T_REQUIRE(cop_registry_lookup("r", cop_int(i), &e) == 1 && e.entry[0].value.number == i + round);
			cop_entries_done(&e);
		}
		T_EQ_INT(cop_registry_keys("r", cop_self(), &e), n);
		cop_entries_done(&e);
		for (i = 0; i < n; i++)
			T_REQUIRE(cop_registry_unregister("r", cop_int(i)) == 0);
		T_EQ_INT(cop_registry_count("r"), 0);
	}
}

NODE_CASE_WITH(a_table_that_is_full, .quota = 1 << 20)
{
	static char big[COP_VALUE_MAX];
	int64_t i, n;

	started("r", COP_UNIQUE, 1);
	for (n = 0; cop_registry_register("r", cop_int(n), cop_bytes(big, sizeof big), NULL) == 0; n++)
		;
	T_EQ_INT(errno, ENOMEM);
	T_CHECK(n > 50);
	T_EQ_INT(cop_registry_count("r"), n);
	for (i = 0; i < 200; i++) { /* what is given back is used */
		T_REQUIRE(cop_registry_unregister("r", cop_int(i % n)) == 0);
		T_REQUIRE(cop_registry_register("r", cop_int(i % n), cop_bytes(big, sizeof big), NULL) == 0);
	}
	T_EQ_INT(cop_registry_count("r"), n);
}

T_MAIN(T_RUN(unique_keys), T_RUN(update_value), T_RUN(keys_of_every_type_and_length), T_RUN(duplicate_keys),
    T_RUN(duplicate_keys_in_partitions), T_RUN(match_and_select), T_RUN(guards_that_make_no_sense),
    T_RUN(unregister_match), T_RUN(meta), T_RUN(listeners), T_RUN(a_server_by_its_key), T_RUN(children_by_their_keys),
    T_RUN(a_dead_holder_fools_nobody), T_RUN(the_link_works_both_ways),
    T_RUN(the_last_entry_takes_the_link_with_it), T_RUN(a_stopped_partition_stops_no_reader), T_RUN(no_such_registry),
    T_RUN(terms_of_no_type), T_RUN(outside_of_a_node),
    T_RUN(a_table_grows_and_is_used_again), T_RUN(a_table_that_is_full))
