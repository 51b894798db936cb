/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Plays the conformance scenarios of supervisors (sup-*) and dynamic supervisors (dyn-*) on the
 * supervisor core alone: every supervisor of a scenario is a core, workers are entries of a
 * queue of events in virtual time. The trace must be the one that Elixir printed. The format is
 * described in tests/conformance/README.md; a command this player does not know is a failure.
 *
 * Nothing is freed: each scenario has a process of its own.
 */
#include <stdarg.h>

#include "t.h"

#include "otp/sup_core.h"

enum { SETTLE_MS = 150, SPECS_MAX = 64, ACTORS_MAX = 256, SLOTS_MAX = 32, QUEUE_MAX = 256, WORDS_MAX = 16 };
enum { LINE_SIZE = 256, OUT_SIZE = 16384 };

enum kind { WORKER, SUPERVISOR, DYNAMIC };

struct spec {
	char name[32], cont[32];
	uint8_t kind; /* enum kind */
	int level;    /* of indentation */
	struct spec *parent;
	struct sup_child_spec child;
	struct sup_flags flags;
	bool trap;
	int slow_init, slow_terminate, initial;
};

struct actor {
	const struct spec *spec;
	struct actor *parent;
	uint32_t slot;
	bool alive, starting, ending;
	/* of a supervisor, by slot */
	struct sup *core;
	struct actor *child[SLOTS_MAX];
	const struct spec *child_spec[SLOTS_MAX];
	uint32_t timer[SLOTS_MAX]; /* number of the one that counts */
};

enum what { Q_INIT, Q_CONTINUE, Q_DOWN, Q_EVENT, Q_TIMER };

struct entry {
	uint8_t what;
	int64_t at;
	uint64_t seq;
	struct actor *actor;
	struct sup_event ev;
	uint32_t timer;
};

/* What `fail` and `ignore` said about a name. */
struct plan {
	char name[32], reason[32];
	int fails, ignores;
};

static struct spec specs[SPECS_MAX];
static struct actor actors[ACTORS_MAX];
static struct entry queue[QUEUE_MAX];
static struct plan plans[SPECS_MAX];
static int n_specs, n_actors, n_queue, n_plans;
static int64_t now, result_at;
static uint64_t seq;
static char out[OUT_SIZE], result[LINE_SIZE];
static bool per_process;

static void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static void say(const char *fmt, ...)
{
	size_t len = strlen(out);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(out + len, sizeof(out) - len, fmt, ap);
	va_end(ap);
	T_REQUIRE(strlen(out) + 2 < sizeof(out));
	strcat(out, "\n");
}

static void say_reason(const char *event, const struct actor *a, const struct cop_exit *reason)
{
	char text[COP_EXIT_FORMAT_MAX];

	say("%s %s %s", event, a->spec->name, cop_exit_format(reason, text, sizeof(text)));
}

static void set_result(const char *text)
{
	snprintf(result, sizeof(result), "%s", text);
	result_at = now;
}

static void set_error(const char *prefix, const struct cop_exit *reason)
{
	char text[COP_EXIT_FORMAT_MAX], line[LINE_SIZE];

	snprintf(line, sizeof(line), "%s %s", prefix, cop_exit_format(reason, text, sizeof(text)));
	set_result(line);
}

static struct cop_exit reason_of(const char *word)
{
	struct cop_exit r;

	T_REQUIRE(cop_exit_parse(word, &r) == 0);
	return r;
}

/* --- the queue --- */

static struct entry *post(enum what what, int64_t delay, struct actor *a)
{
	struct entry *e = &queue[n_queue];

	T_REQUIRE(n_queue < QUEUE_MAX);
	n_queue++;
	*e = (struct entry){ .what = (uint8_t)what, .at = now + delay, .seq = seq++, .actor = a };
	return e;
}

static void post_event(struct actor *a, struct sup_event ev)
{
	post(Q_EVENT, 0, a)->ev = ev;
}

static int earliest(void)
{
	int i, best = -1;

	for (i = 0; i < n_queue; i++)
		if (best < 0 || queue[i].at < queue[best].at ||
		    (queue[i].at == queue[best].at && queue[i].seq < queue[best].seq))
			best = i;
	return best;
}

/* --- processes --- */

static struct plan *plan_of(const char *name)
{
	int i;

	for (i = 0; i < n_plans; i++)
		if (strcmp(plans[i].name, name) == 0)
			return &plans[i];
	T_REQUIRE(n_plans < SPECS_MAX);
	snprintf(plans[n_plans].name, sizeof(plans[0].name), "%s", name);
	return &plans[n_plans++];
}

static struct actor *actor_named(const char *name)
{
	int i;

	for (i = n_actors - 1; i >= 0; i--)
		if (strcmp(actors[i].spec->name, name) == 0)
			return &actors[i];
	return NULL;
}

/* Tells the parent how a start ended; the script, if it is the top. */
static void started(struct actor *a, enum sup_start_result r, const struct cop_exit *reason)
{
	struct sup_event ev = { .type = SUP_EV_STARTED, .slot = a->slot, .result = (uint8_t)r };

	a->starting = false;
	if (r != SUP_START_OK)
		a->alive = false;
	if (reason)
		ev.reason = *reason;
	if (a->parent)
		post_event(a->parent, ev);
	else if (r == SUP_START_OK)
		set_result("ok");
	else
		set_error("error", reason);
}

static void down(struct actor *a, const struct cop_exit *reason)
{
	struct sup_event ev = { .type = SUP_EV_EXITED, .slot = a->slot, .reason = *reason };

	if (!a->alive)
		return;
	a->alive = false;
	say_reason("down", a, reason);
	if (a->parent)
		post_event(a->parent, ev);
}

/* A worker ends through its terminate callback. */
static void end_worker(struct actor *a, struct cop_exit reason)
{
	a->ending = true;
	say_reason("terminate", a, &reason);
	post(Q_DOWN, a->spec->slow_terminate, a)->ev.reason = reason;
}

static bool add_child(struct actor *a, const struct spec *spec, uint32_t *slot_r)
{
	if (sup_child_add(a->core, &spec->child, sup_last(a->core), slot_r) != 0)
		return false;
	T_REQUIRE(*slot_r < SLOTS_MAX);
	a->child_spec[*slot_r] = spec;
	return true;
}

static void init_supervisor(struct actor *a)
{
	uint32_t slot;
	int i;

	say("init %s", a->spec->name);
	a->core = sup_create(&a->spec->flags);
	T_REQUIRE(a->core != NULL);
	for (i = 0; i < n_specs; i++)
		if (specs[i].parent == a->spec && specs[i].level > 0)
			T_REQUIRE(add_child(a, &specs[i], &slot));
	post_event(a, (struct sup_event){ .type = SUP_EV_INIT });
}

static void init_worker(struct actor *a)
{
	struct plan *p = plan_of(a->spec->name);
	struct cop_exit reason;

	if (p->fails > 0) {
		p->fails--;
		reason = reason_of(p->reason);
		say_reason("init_fail", a, &reason);
		started(a, SUP_START_FAILED, &reason);
	} else if (p->ignores > 0) {
		p->ignores--;
		say("init_ignore %s", a->spec->name);
		started(a, SUP_START_IGNORE, NULL);
	} else {
		say("init %s", a->spec->name);
		started(a, SUP_START_OK, NULL);
		if (a->spec->cont[0])
			post(Q_CONTINUE, 0, a);
	}
}

static struct actor *start_process(const struct spec *spec, struct actor *parent, uint32_t slot)
{
	struct actor *a = &actors[n_actors];

	T_REQUIRE(n_actors < ACTORS_MAX);
	n_actors++;
	*a = (struct actor){ .spec = spec, .parent = parent, .slot = slot, .alive = true, .starting = true };
	post(Q_INIT, spec->slow_init, a);
	return a;
}

/* The exit signal `shutdown` of its supervisor. */
static void stop_process(struct actor *a)
{
	struct cop_exit reason = cop_exit_make(COP_EXIT_SHUTDOWN, 0);

	if (a->core)
		post_event(a, (struct sup_event){ .type = SUP_EV_SHUTDOWN, .reason = reason });
	else if (a->spec->trap)
		end_worker(a, reason);
	else
		down(a, &reason);
}

/* --- supervisors --- */

static void reply(const struct sup_action *act)
{
	static const char *const texts[] = { "ok", "ignored", "error not_found", "error running", "error restarting", "",
		"error shutting_down" };

	if (act->reply == SUP_REPLY_FAILED)
		set_error("error", &act->reason);
	else
		set_result(texts[act->reply]);
}

static void supervisor_over(struct actor *a, const struct sup_action *act)
{
	if (a->starting) {
		say_reason("init_fail", a, &act->reason);
		started(a, SUP_START_FAILED, &act->reason);
		return;
	}
	down(a, &act->reason);
	if (!a->parent && strcmp(result, "stopping") == 0)
		set_result("ok");
}

static void set_timer(struct actor *a, const struct sup_action *act)
{
	a->timer[act->slot]++;
	if (act->at_ms >= 0)
		*post(Q_TIMER, act->at_ms - now, a) = (struct entry){ .what = Q_TIMER, .at = act->at_ms, .seq = seq++,
			.actor = a, .ev = { .type = SUP_EV_TIMER, .slot = act->slot }, .timer = a->timer[act->slot] };
}

static void carry_out(struct actor *a, const struct sup_action *act)
{
	struct cop_exit killed = cop_exit_make(COP_EXIT_KILLED, 0);

	switch ((enum sup_action_type)act->type) {
	case SUP_ACT_START:
		a->child[act->slot] = start_process(a->child_spec[act->slot], a, act->slot);
		break;
	case SUP_ACT_STOP:
		stop_process(a->child[act->slot]);
		break;
	case SUP_ACT_KILL:
		down(a->child[act->slot], &killed);
		break;
	case SUP_ACT_TIMER:
		set_timer(a, act);
		break;
	case SUP_ACT_REPLY:
		reply(act);
		break;
	case SUP_ACT_INITED:
		started(a, SUP_START_OK, NULL);
		break;
	case SUP_ACT_FORGET:
		a->child_spec[act->slot] = NULL;
		break;
	case SUP_ACT_EXIT:
		supervisor_over(a, act);
		break;
	case SUP_ACT_RESTART:
	case SUP_ACT_LIMIT:
		break;
	}
}

static void step(struct actor *a, struct sup_event ev)
{
	struct sup_action act;

	if (sup_ended(a->core))
		return;
	ev.now_ms = now;
	sup_step(a->core, &ev);
	while (sup_next_action(a->core, &act))
		carry_out(a, &act);
}

/* --- time --- */

static void happen(const struct entry *e)
{
	switch ((enum what)e->what) {
	case Q_INIT:
		if (!e->actor->alive)
			break;
		if (e->actor->spec->kind == WORKER)
			init_worker(e->actor);
		else
			init_supervisor(e->actor);
		break;
	case Q_CONTINUE:
		say("handle_continue %s %s", e->actor->spec->name, e->actor->spec->cont);
		end_worker(e->actor, reason_of(e->actor->spec->cont));
		break;
	case Q_DOWN:
		down(e->actor, &e->ev.reason);
		break;
	case Q_EVENT:
		step(e->actor, e->ev);
		break;
	case Q_TIMER:
		if (e->timer == e->actor->timer[e->ev.slot])
			step(e->actor, e->ev);
		break;
	}
}

/* Lets time pass until the result is known and nothing has happened for the settle time. */
static void settle(void)
{
	struct entry e;
	int i;

	for (;;) {
		int64_t quiet = (result_at > now ? result_at : now) + SETTLE_MS;
		bool known = result_at >= 0 && strcmp(result, "stopping") != 0;

		i = earliest();
		if (known && (i < 0 || queue[i].at > quiet)) {
			now = quiet;
			return;
		}
		T_REQUIRE(i >= 0);
		e = queue[i];
		queue[i] = queue[--n_queue];
		now = e.at;
		happen(&e);
	}
}

/* --- specifications --- */

static void set_defaults(struct spec *s)
{
	s->child = (struct sup_child_spec){ .restart = SUP_PERMANENT, .supervisor = s->kind != WORKER, .enabled = true,
		.shutdown_ms = s->kind == WORKER ? 5000 : SUP_SHUTDOWN_INFINITY };
	s->flags = (struct sup_flags){ .dynamic = s->kind == DYNAMIC, .max_restarts = 3, .max_seconds = 5,
		.max_children = SUP_NO_LIMIT };
}

static uint8_t pick(const char *value, const char *a, const char *b, const char *c)
{
	if (strcmp(value, a) == 0)
		return 0;
	if (strcmp(value, b) == 0)
		return 1;
	T_REQUIRE(strcmp(value, c) == 0);
	return 2;
}

static int32_t shutdown_of(const char *value)
{
	if (strcmp(value, "brutal_kill") == 0)
		return SUP_SHUTDOWN_BRUTAL;
	return strcmp(value, "infinity") == 0 ? SUP_SHUTDOWN_INFINITY : atoi(value);
}

static void set_option(struct spec *s, const char *key, const char *value)
{
	if (strcmp(key, "strategy") == 0)
		s->flags.strategy = pick(value, "one_for_one", "one_for_all", "rest_for_one");
	else if (strcmp(key, "auto_shutdown") == 0)
		s->flags.auto_shutdown = pick(value, "never", "any_significant", "all_significant");
	else if (strcmp(key, "restart") == 0)
		s->child.restart = pick(value, "permanent", "transient", "temporary");
	else if (strcmp(key, "max_restarts") == 0)
		s->flags.max_restarts = (uint32_t)atoi(value);
	else if (strcmp(key, "max_seconds") == 0)
		s->flags.max_seconds = (uint32_t)atoi(value);
	else if (strcmp(key, "max_children") == 0)
		s->flags.max_children = (uint32_t)atoi(value);
	else if (strcmp(key, "shutdown") == 0)
		s->child.shutdown_ms = shutdown_of(value);
	else if (strcmp(key, "significant") == 0)
		s->child.significant = strcmp(value, "yes") == 0;
	else if (strcmp(key, "trap_exit") == 0)
		s->trap = strcmp(value, "yes") == 0;
	else if (strcmp(key, "slow_init") == 0)
		s->slow_init = atoi(value);
	else if (strcmp(key, "slow_terminate") == 0)
		s->slow_terminate = atoi(value);
	else if (strcmp(key, "initial") == 0)
		s->initial = atoi(value);
	else if (strcmp(key, "continue") == 0)
		snprintf(s->cont, sizeof(s->cont), "%s", value);
	else
		T_REQUIRE(!"an option that this player knows");
}

/* Reads `KIND NAME key=value...`. */
static struct spec *read_spec(char **word, int n)
{
	struct spec *s = &specs[n_specs];
	int i;

	T_REQUIRE(n_specs < SPECS_MAX && n >= 2);
	n_specs++;
	s->kind = pick(word[0], "worker", "supervisor", "dynamic_supervisor");
	snprintf(s->name, sizeof(s->name), "%s", word[1]);
	set_defaults(s);
	for (i = 2; i < n; i++) {
		char *value = strchr(word[i], '=');

		T_REQUIRE(value != NULL);
		*value = '\0';
		set_option(s, word[i], value + 1);
		*value = '=';
	}
	return s;
}

static void read_tree_line(char **word, int n, int level)
{
	struct spec *s = read_spec(word, n);
	int i;

	s->level = level;
	for (i = n_specs - 2; i >= 0 && !s->parent; i--)
		if (specs[i].level < level)
			s->parent = &specs[i];
}

/* --- commands --- */

static uint32_t slot_named(const struct actor *a, const char *name)
{
	uint32_t slot;

	for (slot = sup_first(a->core); slot != SUP_NONE; slot = sup_next(a->core, slot))
		if (strcmp(a->child_spec[slot]->name, name) == 0)
			return slot;
	return SUP_NONE;
}

static void call(struct actor *a, enum sup_op op, uint32_t slot)
{
	post_event(a, (struct sup_event){ .type = SUP_EV_CALL, .op = (uint8_t)op, .slot = slot });
}

static void start_child(char **word, int n)
{
	struct actor *a = actor_named(word[1]);
	uint32_t slot = a->spec->flags.dynamic ? SUP_NONE : slot_named(a, word[3]);
	struct spec *s;

	if (slot != SUP_NONE) {
		set_result(sup_child_status(a->core, slot) == SUP_ST_RUNNING ? "error already_started" :
		    "error already_present");
		return;
	}
	s = read_spec(word + 2, n - 2);
	s->parent = NULL;
	if (add_child(a, s, &slot))
		call(a, SUP_OP_START, slot);
	else
		set_result(errno == EOVERFLOW ? "error max_children" : strerror(errno));
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void which(struct actor *a)
{
	char line[LINE_SIZE] = "", *part[SLOTS_MAX];
	uint32_t slot;
	int n = 0, i;

	for (slot = sup_last(a->core); slot != SUP_NONE; slot = sup_prev(a->core, slot))
		T_REQUIRE(asprintf(&part[n++], "%s=%s", a->child_spec[slot]->name,
			sup_child_status(a->core, slot) == SUP_ST_RUNNING ? "up" : "undefined") > 0);
	if (a->spec->flags.dynamic)
		qsort(part, (size_t)n, sizeof(part[0]), by_text);
	for (i = 0; i < n; i++)
		snprintf(line + strlen(line), sizeof(line) - strlen(line), "%s%s", i ? " " : "", part[i]);
	for (i = 0; i < n; i++)
		free(part[i]);
	set_result(n > 0 ? line : "none");
}

static void count(struct actor *a)
{
	char line[LINE_SIZE];
	struct sup_counts c;

	sup_count_children(a->core, &c);
	snprintf(line, sizeof(line), "specs=%u active=%u supervisors=%u workers=%u", c.specs, c.active, c.supervisors,
		c.workers);
	set_result(line);
}

/* An exit signal from the script, which is the top's parent and nobody else's. */
static void signal_actor(struct actor *a, struct cop_exit reason)
{
	if (a->core)
		post_event(a, (struct sup_event){ .type = SUP_EV_SHUTDOWN, .reason = reason });
	else
		down(a, &reason);
}

static void call_worker(const char *name)
{
	char line[LINE_SIZE];

	say("handle_call %s get", name);
	snprintf(line, sizeof(line), "%d", actor_named(name)->spec->initial);
	set_result(line);
}

/* Commands that act on a process or let time pass; their result is ok at once. */
static bool act_on_process(char **word)
{
	struct plan *p;

	if (strcmp(word[0], "wait") == 0) {
		set_result("ok");
		result_at = now + atoi(word[1]) - SETTLE_MS;
		return true;
	}
	if (strcmp(word[0], "exit") == 0) {
		end_worker(actor_named(word[1]), reason_of(word[2]));
	} else if (strcmp(word[0], "kill") == 0) {
		signal_actor(actor_named(word[1]), cop_exit_make(COP_EXIT_KILLED, 0));
	} else if (strcmp(word[0], "signal") == 0) {
		signal_actor(actor_named(word[1]), reason_of(word[2]));
	} else if (strcmp(word[0], "fail") == 0) {
		p = plan_of(word[1]);
		p->fails = atoi(word[2]);
		snprintf(p->reason, sizeof(p->reason), "%s", word[3]);
	} else if (strcmp(word[0], "ignore") == 0) {
		plan_of(word[1])->ignores = atoi(word[2]);
	} else {
		return false;
	}
	set_result("ok");
	return true;
}

static bool act_on_child(char **word, int n)
{
	static const struct {
		const char *name;
		enum sup_op op;
	} calls[] = { { "terminate_child", SUP_OP_TERMINATE }, { "restart_child", SUP_OP_RESTART },
		{ "delete_child", SUP_OP_DELETE } };
	size_t i;

	if (strcmp(word[0], "start_child") == 0) {
		start_child(word, n);
		return true;
	}
	for (i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		if (strcmp(word[0], calls[i].name) == 0) {
			struct actor *a = actor_named(word[1]);

			call(a, calls[i].op, slot_named(a, word[2]));
			return true;
		}
	}
	return false;
}

static bool look(char **word)
{
	struct actor *a;

	if (strcmp(word[0], "call") == 0) {
		call_worker(word[1]);
		return true;
	}
	if (strcmp(word[0], "alive") != 0 && strcmp(word[0], "whereis") != 0 && strcmp(word[0], "which") != 0 &&
	    strcmp(word[0], "count") != 0)
		return false;
	a = actor_named(word[1]);
	if (strcmp(word[0], "which") == 0)
		which(a);
	else if (strcmp(word[0], "count") == 0)
		count(a);
	else
		set_result(a && a->alive ? "yes" : "no");
	return true;
}

static void command(char **word, int n)
{
	if (strcmp(word[0], "start") == 0) {
		start_process(&specs[0], NULL, SUP_NONE);
	} else if (strcmp(word[0], "stop") == 0) {
		signal_actor(actor_named(specs[0].name), cop_exit_make(COP_EXIT_NORMAL, 0));
		set_result("stopping");
	} else {
		T_REQUIRE(act_on_process(word) || act_on_child(word, n) || look(word));
	}
}

/* --- the file --- */

static int split(char *line, char **word)
{
	char *save = NULL, *w;
	int n = 0;

	line[strcspn(line, "#\n")] = '\0';
	for (w = strtok_r(line, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
		T_REQUIRE(n < WORDS_MAX);
		word[n++] = w;
	}
	return n;
}

static void run_command(char **word, int n)
{
	char line[LINE_SIZE] = ">";
	int i;

	for (i = 0; i < n; i++)
		snprintf(line + strlen(line), sizeof(line) - strlen(line), " %s", word[i]);
	say("%s", line);
	result_at = -1;
	result[0] = '\0';
	command(word, n);
	settle();
	say("< %s", result);
}

static void read_line(char *line)
{
	static enum { HEAD, TREE, SCRIPT } section = HEAD;
	int level = (int)strspn(line, " ") / 2, n;
	char *word[WORDS_MAX];

	n = split(line, word);
	if (n == 0)
		return;
	if (level == 0 && strcmp(word[0], "order") == 0)
		per_process = strcmp(word[1], "per_process") == 0;
	else if (level == 0 && strcmp(word[0], "tree") == 0)
		section = TREE;
	else if (level == 0 && strcmp(word[0], "script") == 0)
		section = SCRIPT;
	else if (section == TREE)
		read_tree_line(word, n, level - 1);
	else
		run_command(word, n);
}

/* Moves the lines of each actor together, in their order, if that is all that is compared. */
static void canonical(const char *text, char *to)
{
	char actor[LINE_SIZE], seen[OUT_SIZE] = " ";
	const char *a, *b;
	size_t n;

	if (!per_process) {
		strcpy(to, text);
		return;
	}
	*to = '\0';
	for (a = text; *a; a += strcspn(a, "\n") + 1) {
		bool script = *a == '>' || *a == '<';

		n = strcspn(a, " ") + 1;
		snprintf(actor, sizeof(actor), " %.*s ", (int)strcspn(a + n, " \n"), script ? "script" : a + n);
		if (strstr(seen, actor))
			continue;
		strcat(seen, actor);
		for (b = text; *b; b += strcspn(b, "\n") + 1) {
			bool same = script ? *b == '>' || *b == '<' :
			    *b != '>' && *b != '<' && strncmp(strchr(b, ' '), actor, strlen(actor) - 1) == 0;

			if (same)
				strncat(to, b, strcspn(b, "\n") + 1);
		}
	}
}

static FILE *open_scenario(const char *name, const char *suffix)
{
	const char *top = getenv("COP_SRCDIR");
	char path[4096];
	FILE *f;

	snprintf(path, sizeof(path), "%s/tests/conformance/%s.%s", top ? top : ".", name, suffix);
	f = fopen(path, "r");
	T_REQUIRE(f != NULL);
	return f;
}

static void play(const char *name)
{
	static char golden[OUT_SIZE], a[OUT_SIZE], b[OUT_SIZE];
	char line[LINE_SIZE];
	FILE *f = open_scenario(name, "scn");

	while (fgets(line, sizeof(line), f))
		read_line(line);
	fclose(f);
	f = open_scenario(name, "trace");
	golden[fread(golden, 1, sizeof(golden) - 1, f)] = '\0';
	fclose(f);
	canonical(golden, a);
	canonical(out, b);
	T_EQ_STR(b, a);
}

#define SCENARIOS(X) \
	X(sup_01, "sup-01-start-stop-order") X(sup_02, "sup-02-one-for-one") X(sup_03, "sup-03-one-for-all") \
	X(sup_04, "sup-04-rest-for-one") X(sup_05, "sup-05-restart-types-normal") \
	X(sup_06, "sup-06-restart-types-shutdown") X(sup_07, "sup-07-restart-types-crash") \
	X(sup_08, "sup-08-start-failure") X(sup_09, "sup-09-start-ignore") X(sup_10, "sup-10-intensity-exceeded") \
	X(sup_11, "sup-11-intensity-zero") X(sup_12, "sup-12-intensity-window") X(sup_13, "sup-13-escalation") \
	X(sup_14, "sup-14-escalation-transient-sub") X(sup_15, "sup-15-shutdown-timeout") \
	X(sup_16, "sup-16-brutal-kill") X(sup_17, "sup-17-shutdown-infinity") \
	X(sup_18, "sup-18-slow-terminate-on-exit") X(sup_19, "sup-19-child-lifecycle") \
	X(sup_20, "sup-20-start-child") X(sup_21, "sup-21-start-child-fails") \
	X(sup_22, "sup-22-restart-fails-then-works") X(sup_23, "sup-23-restart-fails-for-ever") \
	X(sup_24, "sup-24-auto-shutdown-any") X(sup_25, "sup-25-auto-shutdown-all") \
	X(sup_26, "sup-26-one-for-all-nested") X(sup_27, "sup-27-signal-from-parent") \
	X(sup_28, "sup-28-one-for-all-restart-fails") X(sup_29, "sup-29-temporary-siblings") \
	X(dyn_01, "dyn-01-children") X(dyn_02, "dyn-02-max-children") X(dyn_03, "dyn-03-job-retries") \
	X(dyn_04, "dyn-04-terminate-child") X(dyn_05, "dyn-05-gives-up")

#define X(id, file) T_CASE(id) { play(file); }
SCENARIOS(X)
#undef X

#define X(id, file) T_RUN(id),
T_MAIN(SCENARIOS(X))
