/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * One table of all keys: where each is allowed, what type and range its value has. Whatever is
 * in no row, in the wrong place, of the wrong type or out of range is an error; the code that
 * gives keys their meaning only ever sees what the table allows. Parser process.
 *
 * The order of a key's allowed values is the order of the enumeration they stand for.
 */
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "node/config_private.h"

enum {
	T_INT = 1, T_FLOAT = 2, T_BOOL = 4, T_STRING = 8,
	T_STRINGS = 16,  /* array or list of strings */
	T_SCALARS = 32,  /* array or list of numbers and strings */
	T_GROUPS = 64,   /* list of groups */
	T_GROUP = 128,
	T_ANY = 256,     /* whatever libconfig has */
};

#define VALUES(...) (const char *const[]){ __VA_ARGS__, NULL }
#define MS_MAX INT32_MAX
#define SUPERVISORS (WHERE_TOP | WHERE_SUPERVISOR | WHERE_DYNAMIC)

struct key {
	const char *name;
	unsigned where, types;
	int64_t lo, hi;             /* of integers */
	const char *const *values;  /* of strings */
	const char *expect;         /* what is expected, where the rest does not say it well */
};

static const struct key keys[] = {
	{ "node", WHERE_FILE, T_STRING, 0, 0, NULL, NULL },
	{ "supervisor", WHERE_FILE, T_GROUP, 0, 0, NULL, NULL },
	{ "include", WHERE_FILE, T_STRINGS, 0, 0, NULL, NULL },

	{ "id", WHERE_CHILD, T_STRING, 0, 0, NULL, NULL },
	{ "type", WHERE_CHILD, T_STRING, 0, 0, VALUES("worker", "supervisor", "dynamic_supervisor"), NULL },
	{ "restart", WHERE_CHILD, T_STRING, 0, 0, VALUES("permanent", "transient", "temporary"), NULL },
	{ "shutdown", WHERE_CHILD, T_INT | T_STRING, 0, MS_MAX, VALUES("brutal_kill", "infinity"), NULL },
	{ "significant", WHERE_CHILD, T_BOOL, 0, 0, NULL, NULL },
	{ "enabled", WHERE_CHILD, T_BOOL, 0, 0, NULL, NULL },

	{ "strategy", WHERE_TOP | WHERE_SUPERVISOR, T_STRING, 0, 0,
	    VALUES("one_for_one", "one_for_all", "rest_for_one"), NULL },
	{ "strategy", WHERE_DYNAMIC, T_STRING, 0, 0, VALUES("one_for_one"), NULL },
	{ "max_restarts", SUPERVISORS, T_INT, 0, 1000000, NULL, NULL },
	{ "max_seconds", SUPERVISORS, T_INT, 1, INT32_MAX, NULL, NULL },
	{ "auto_shutdown", WHERE_TOP | WHERE_SUPERVISOR, T_STRING, 0, 0,
	    VALUES("never", "any_significant", "all_significant"), NULL },
	{ "children", WHERE_TOP | WHERE_SUPERVISOR | WHERE_PART, T_GROUPS, 0, 0, NULL, NULL },
	{ "max_children", WHERE_DYNAMIC, T_INT, 0, CONF_CHILDREN_MAX, NULL, NULL },

	{ "exec", WHERE_WORKER, T_STRINGS, 0, 0, NULL, "an array of strings: the program and its arguments" },
	{ "module", WHERE_WORKER, T_STRING, 0, 0, NULL, "the name of a shared object" },
	{ "server", WHERE_WORKER, T_STRING, 0, 0, NULL, "\"json\", or the name of a module's server" },
	{ "name", WHERE_WORKER, T_STRING, 0, 0, NULL, "the name to be registered" },
	{ "args", WHERE_WORKER, T_ANY, 0, 0, NULL, "any value" },
	{ "dir", WHERE_WORKER, T_STRING, 0, 0, NULL, NULL },
	{ "umask", WHERE_WORKER, T_INT | T_STRING, 0, 0777, NULL, "an octal number, as 022" },
	{ "user", WHERE_WORKER, T_STRING, 0, 0, NULL, "a user's name" },
	{ "group", WHERE_WORKER, T_STRING, 0, 0, NULL, "a group's name" },
	{ "groups", WHERE_WORKER, T_STRINGS, 0, 0, NULL, "an array of groups' names" },
	{ "nice", WHERE_WORKER, T_INT, -20, 19, NULL, NULL },
	{ "env", WHERE_WORKER, T_GROUP | T_STRINGS, 0, 0, NULL,
	    "a group { NAME = \"value\"; ... } or an array of \"NAME=value\"" },
	{ "env_file", WHERE_WORKER, T_STRING, 0, 0, NULL, NULL },
	{ "env_clear", WHERE_WORKER, T_BOOL, 0, 0, NULL, NULL },
	{ "limits", WHERE_WORKER, T_GROUP, 0, 0, NULL, NULL },
	{ "ready", WHERE_WORKER, T_STRING, 0, 0, NULL, NULL },
	{ "ready_timeout", WHERE_WORKER, T_INT, 1, MS_MAX, NULL, NULL },
	{ "stop_signal", WHERE_WORKER, T_STRING, 0, 0, NULL, "a signal's name, as \"TERM\"" },
	{ "kill_group", WHERE_WORKER, T_BOOL, 0, 0, NULL, NULL },
	{ "success", WHERE_WORKER, T_SCALARS, 0, 255, NULL, "a list of exit codes and signals' names" },
	{ "watchdog", WHERE_WORKER, T_INT, 1, MS_MAX, NULL, NULL },
	{ "backoff", WHERE_WORKER, T_GROUP, 0, 0, NULL, NULL },
	{ "sockets", WHERE_WORKER, T_GROUPS, 0, 0, NULL, NULL },
	{ "log", WHERE_WORKER, T_GROUP | T_STRING, 0, 0, VALUES("inherit", "null"), NULL },
	{ "instances", WHERE_WORKER, T_INT, 1, CONF_INSTANCES_MAX, NULL, NULL },

	{ "min", WHERE_BACKOFF, T_INT, 1, MS_MAX, NULL, NULL },
	{ "max", WHERE_BACKOFF, T_INT, 1, MS_MAX, NULL, NULL },
	{ "factor", WHERE_BACKOFF, T_INT | T_FLOAT, 1, 1000, NULL, NULL },
	{ "reset", WHERE_BACKOFF, T_INT, 1, MS_MAX, NULL, NULL },

	{ "nofile", WHERE_LIMITS, T_INT | T_STRING, 0, INT64_MAX, VALUES("unlimited"), NULL },
	{ "nproc", WHERE_LIMITS, T_INT | T_STRING, 0, INT64_MAX, VALUES("unlimited"), NULL },
	{ "as", WHERE_LIMITS, T_INT | T_STRING, 0, INT64_MAX, VALUES("unlimited"), NULL },
	{ "core", WHERE_LIMITS, T_INT | T_STRING, 0, INT64_MAX, VALUES("unlimited"), NULL },
	{ "cpu", WHERE_LIMITS, T_INT | T_STRING, 0, INT64_MAX, VALUES("unlimited"), NULL },
	{ "fsize", WHERE_LIMITS, T_INT | T_STRING, 0, INT64_MAX, VALUES("unlimited"), NULL },
	{ "stack", WHERE_LIMITS, T_INT | T_STRING, 0, INT64_MAX, VALUES("unlimited"), NULL },
	{ "memlock", WHERE_LIMITS, T_INT | T_STRING, 0, INT64_MAX, VALUES("unlimited"), NULL },

	{ "name", WHERE_SOCKET, T_STRING, 0, 0, NULL, NULL },
	{ "listen", WHERE_SOCKET, T_STRING, 0, 0, NULL, NULL },
	{ "mode", WHERE_SOCKET, T_INT | T_STRING, 0, 0777, NULL, "an octal number, as 0600" },

	{ "file", WHERE_LOG, T_STRING, 0, 0, NULL, "the name of a directory" },
	{ "max_bytes", WHERE_LOG, T_INT, 0, INT64_MAX, NULL, NULL },
	{ "max_files", WHERE_LOG, T_INT, 0, 100000, NULL, NULL },
	{ "timestamps", WHERE_LOG, T_BOOL, 0, 0, NULL, NULL },
};

#define N_KEYS (sizeof keys / sizeof keys[0])

static const struct { unsigned where; const char *name; } places[] = {
	{ WHERE_FILE, "the configuration" },
	{ WHERE_PART, "an included file" },
	{ WHERE_TOP, "the top supervisor" },
	{ WHERE_WORKER, "a worker" },
	{ WHERE_SUPERVISOR, "a supervisor" },
	{ WHERE_DYNAMIC, "a dynamic supervisor" },
	{ WHERE_BACKOFF, "`backoff`" },
	{ WHERE_LIMITS, "`limits`" },
	{ WHERE_SOCKET, "a socket" },
	{ WHERE_LOG, "`log`" },
};

static const char marked; /* its address is the hook of settings that are wrong */

/* --- looking up --- */

static const struct key *lookup(const char *name, unsigned where)
{
	size_t i;

	for (i = 0; i < N_KEYS; i++)
		if ((keys[i].where & where) && strcmp(keys[i].name, name) == 0)
			return &keys[i];
	return NULL;
}

bool conf_keys_is_string(const char *key)
{
	const struct key *k = lookup(key, ~0u);

	return k && k->types == T_STRING;
}

const char *const *conf_keys_values(const char *key, unsigned where)
{
	const struct key *k = lookup(key, where);

	return k ? k->values : NULL;
}

/* Names of the keys that are allowed there, for suggestions. */
static const char *const *names_of(unsigned where)
{
	static const char *names[N_KEYS + 1];
	size_t i, n = 0;

	for (i = 0; i < N_KEYS; i++)
		if (keys[i].where & where)
			names[n++] = keys[i].name;
	names[n] = NULL;
	return names;
}

const char *conf_keys_nearest(const char *word, const char *const *table)
{
	const char *near = text_nearest(word, table);

	/* Of short words any two are near each other; the first letter is seldom mistyped. */
	return near && (strlen(word) > 4 || word[0] == near[0]) ? near : NULL;
}

/* --- describing --- */

/* "a", "a or b", "a, b or c" (or another word than or). */
static const char *join(const char *const *parts, size_t n, const char *word, const char *quote)
{
	struct conf_buf b = { 0 };
	size_t i;

	for (i = 0; i < n; i++) {
		if (i > 0)
			conf_buf_puts(&b, i + 1 == n ? word : ", ");
		conf_buf_puts(&b, quote);
		conf_buf_puts(&b, parts[i]);
		conf_buf_puts(&b, quote);
	}
	return b.data ? b.data : "nothing";
}

/* "a worker", or "a worker or a supervisor" for several places. */
static const char *place_name(unsigned where)
{
	const char *names[sizeof places / sizeof places[0]];
	size_t i, n = 0;

	for (i = 0; i < sizeof places / sizeof places[0]; i++)
		if (places[i].where & where)
			names[n++] = places[i].name;
	return join(names, n, " or ", "");
}

static size_t count(const char *const *v)
{
	size_t n = 0;

	while (v && v[n])
		n++;
	return n;
}

static const char *describe_int(const struct key *k)
{
	if (k->hi == INT64_MAX)
		return conf_printf("a whole number of at least %lld", (long long)k->lo);
	return conf_printf("a whole number from %lld to %lld", (long long)k->lo, (long long)k->hi);
}

static const char *describe(const struct key *k)
{
	const char *parts[8];
	size_t n = 0;

	if (k->expect)
		return k->expect;
	if (k->types & T_FLOAT)
		return conf_printf("a number from %lld to %lld", (long long)k->lo, (long long)k->hi);
	if (k->types & T_INT)
		parts[n++] = describe_int(k);
	if (k->types & T_BOOL)
		parts[n++] = "true or false";
	if (k->types & T_STRING)
		parts[n++] = k->values ? join(k->values, count(k->values), " or ", "\"") : "a string";
	if (k->types & T_STRINGS)
		parts[n++] = "an array of strings";
	if (k->types & T_GROUP)
		parts[n++] = "a group { ... }";
	if (k->types & T_GROUPS)
		parts[n++] = "a list ( { ... }, ... ) of groups";
	return join(parts, n, " or ", "");
}

const char *conf_keys_found(const config_setting_t *s)
{
	switch (config_setting_type(s)) {
	case CONFIG_TYPE_INT:
	case CONFIG_TYPE_INT64:
		return "a whole number";
	case CONFIG_TYPE_FLOAT:
		return "a number with a fraction";
	case CONFIG_TYPE_BOOL:
		return "true or false";
	case CONFIG_TYPE_STRING:
		return "a string";
	case CONFIG_TYPE_ARRAY:
		return "an array";
	case CONFIG_TYPE_LIST:
		return "a list";
	default:
		return "a group";
	}
}

/* --- checking one key --- */

static unsigned types_of(const config_setting_t *s)
{
	switch (config_setting_type(s)) {
	case CONFIG_TYPE_INT:
	case CONFIG_TYPE_INT64:
		return T_INT;
	case CONFIG_TYPE_FLOAT:
		return T_FLOAT;
	case CONFIG_TYPE_BOOL:
		return T_BOOL;
	case CONFIG_TYPE_STRING:
		return T_STRING;
	case CONFIG_TYPE_ARRAY:
		return T_STRINGS | T_SCALARS;
	case CONFIG_TYPE_LIST:
		return T_STRINGS | T_SCALARS | T_GROUPS;
	default:
		return T_GROUP;
	}
}

static void mark(config_setting_t *s)
{
	union {
		const void *r;
		void *w;
	} u = { .r = &marked };

	config_setting_set_hook(s, u.w);
}

static bool in_range(const struct key *k, const config_setting_t *s)
{
	double f;

	if (conf_is_int(s))
		return conf_int(s) >= k->lo && conf_int(s) <= k->hi;
	f = config_setting_get_float(s);
	return f >= (double)k->lo && f <= (double)k->hi;
}

static const char *show_number(const config_setting_t *s)
{
	if (conf_is_int(s))
		return conf_printf("%lld", (long long)conf_int(s));
	return conf_printf("%g", config_setting_get_float(s));
}

static bool check_number(struct conf *c, const struct key *k, const config_setting_t *s)
{
	if (k->expect || in_range(k, s)) /* octal numbers: conf_get_octal() */
		return true;
	conf_error(c, s, "`%s` is %s; it must be %s", k->name, show_number(s), describe(k));
	return false;
}

static bool check_value(struct conf *c, const struct key *k, const config_setting_t *s)
{
	const char *value = config_setting_get_string(s), *near;
	size_t i;

	for (i = 0; k->values && k->values[i]; i++)
		if (strcmp(k->values[i], value) == 0)
			return true;
	if (!k->values)
		return true;
	near = conf_keys_nearest(value, k->values);
	if (near && k->values[1])
		conf_error(c, s, "`%s` is \"%s\"; did you mean \"%s\"? It must be %s", k->name, value, near,
		    describe(k));
	else
		conf_error(c, s, "`%s` is \"%s\"; it must be %s", k->name, value, describe(k));
	return false;
}

/* Elements of arrays and lists. */
static bool check_elements(struct conf *c, const struct key *k, const config_setting_t *s)
{
	unsigned allowed = k->types & T_GROUPS ? T_GROUP : k->types & T_SCALARS ? T_INT | T_STRING : T_STRING;
	int i, n = config_setting_length(s);
	bool ok = true;

	for (i = 0; i < n; i++) {
		config_setting_t *e = config_setting_get_elem(s, (unsigned)i);

		if (types_of(e) & allowed)
			continue;
		conf_error(c, e, "`%s` must be %s; its element %d is %s", k->name, describe(k), i + 1,
		    conf_keys_found(e));
		mark(e);
		ok = false;
	}
	/* Of a list of groups the sound ones are still looked at. */
	return ok || allowed == T_GROUP;
}

static bool check_setting(struct conf *c, const struct key *k, const config_setting_t *s)
{
	unsigned types = types_of(s) & k->types;

	if (k->types & T_ANY)
		return true; /* what is in it is the module's business */
	if (types == 0) {
		conf_error(c, s, "`%s` must be %s, not %s", k->name, describe(k), conf_keys_found(s));
		return false;
	}
	if (types & (T_INT | T_FLOAT))
		return check_number(c, k, s);
	if (types & T_STRING)
		return check_value(c, k, s);
	if (types & (T_STRINGS | T_SCALARS | T_GROUPS))
		return check_elements(c, k, s);
	return true;
}

static void unknown(struct conf *c, const config_setting_t *s, const char *name, unsigned where)
{
	const char *const *names = names_of(where);
	const char *near = conf_keys_nearest(name, names);
	const struct key *k = lookup(name, ~0u);

	if (k)
		conf_error(c, s, "`%s` is not a key of %s; it belongs to %s", name, place_name(where),
		    place_name(k->where));
	else if (near)
		conf_error(c, s, "unknown key `%s`; did you mean `%s`?", name, near);
	else
		conf_error(c, s, "unknown key `%s`; see coppice.conf(5) for the keys of %s", name, place_name(where));
}

void conf_keys_check(struct conf *c, config_setting_t *group, unsigned where)
{
	int i, n = config_setting_length(group);

	for (i = 0; i < n; i++) {
		config_setting_t *s = config_setting_get_elem(group, (unsigned)i);
		const char *name = config_setting_name(s);
		const struct key *k = lookup(name, where);
		bool ok = false;

		if (k)
			ok = check_setting(c, k, s);
		else if (strncmp(name, CONF_DUPLICATE_PREFIX, strlen(CONF_DUPLICATE_PREFIX)) != 0)
			unknown(c, s, name, where);
		if (!ok)
			mark(s);
	}
}

bool conf_is_marked(const config_setting_t *s)
{
	return config_setting_get_hook(s) == &marked;
}
