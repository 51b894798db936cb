/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * What a worker is: its program, how it is limited, asked to stop and judged when it ends. Its
 * identity, environment, readiness, sockets and log have files of their own. Parser process.
 */
#include <stdint.h>
#include <string.h>

#include "base/text.h"
#include "node/config_private.h"

#define ARGUMENT_MAX 131071   /* bytes the kernel takes in one argument */

void conf_worker_defaults(struct spec_worker *w)
{
	int i;

	*w = (struct spec_worker){
		.umask = 022, .uid = SPEC_UNSET_ID, .gid = SPEC_UNSET_ID, .nice = SPEC_NICE_UNSET,
		.kill_group = 1, .ready = SPEC_READY_EXEC, .ready_timeout_ms = 30000, .log = SPEC_LOG_DIR,
		.stop_signal = 15, .success_codes = { 1 },
		.log_max_bytes = 10u << 20, .log_max_files = 10,
	};
	for (i = 0; i < SPEC_LIMITS; i++)
		w->limits[i] = SPEC_LIMIT_UNSET;
}

/* --- the program --- */

static void exec(struct conf_scope *s)
{
	const config_setting_t *list = conf_get(s->g, "exec"), *e;
	struct conf_vec v = { 0 };
	int i, n = list ? config_setting_length(list) : 0;

	if (!conf_has(s->g, "exec") && !conf_has(s->g, "module"))
		conf_error(s->c, s->g, "a worker needs `exec = [ \"/path/of/program\", \"argument\", ... ]`");
	else if (list && n == 0)
		conf_error(s->c, list, "`exec` is empty; its first element is the program");
	for (i = 0; i < n; i++) {
		const char *arg;

		e = config_setting_get_elem(list, (unsigned)i);
		arg = conf_expand(s, config_setting_get_string(e));
		if (i == 0 && arg[0] == '\0')
			conf_error(s->c, e, "`exec` begins with an empty string; its first element is the program");
		if (strlen(arg) > ARGUMENT_MAX)
			conf_error(s->c, e, "element %d of `exec` is longer than %d bytes", i + 1, ARGUMENT_MAX);
		conf_vec_add(&v, conf_image_str(&s->c->img, arg));
	}
	s->spec.worker.exec = conf_image_list(&s->c->img, &v);
}

static void place(struct conf_scope *s)
{
	struct spec_worker *w = &s->spec.worker;
	int mask = conf_get_octal(s->c, s->g, "umask", 022);

	w->dir = conf_image_str(&s->c->img, conf_get_path(s, s->g, "dir"));
	w->umask = mask < 0 ? 022 : (uint32_t)mask;
	w->nice = (int8_t)conf_get_int(s->g, "nice", SPEC_NICE_UNSET);
}

static void limits(struct conf_scope *s)
{
	static const char *const names[SPEC_LIMITS] = {
		[SPEC_LIMIT_NOFILE] = "nofile", [SPEC_LIMIT_NPROC] = "nproc", [SPEC_LIMIT_AS] = "as",
		[SPEC_LIMIT_CORE] = "core", [SPEC_LIMIT_CPU] = "cpu", [SPEC_LIMIT_FSIZE] = "fsize",
		[SPEC_LIMIT_STACK] = "stack", [SPEC_LIMIT_MEMLOCK] = "memlock",
	};
	config_setting_t *g = conf_get(s->g, "limits");
	int i;

	if (!g)
		return;
	conf_keys_check(s->c, g, WHERE_LIMITS);
	for (i = 0; i < SPEC_LIMITS; i++) {
		if (conf_get_str(g, names[i]))
			s->spec.worker.limits[i] = SPEC_LIMIT_UNLIMITED;
		else if (conf_get(g, names[i]))
			s->spec.worker.limits[i] = (uint64_t)conf_get_int(g, names[i], 0);
	}
}

/* --- its end --- */

/* A signal's number; 0 after an error. */
static int signal_number(struct conf *c, const config_setting_t *at, const char *key, const char *name)
{
	int sig = text_to_signal(name);

	if (sig >= 1 && sig <= 64)
		return sig;
	conf_error(c, at, "`%s`: there is no signal \"%s\"; signals are named as \"TERM\", \"HUP\", \"RTMIN+3\"",
	    key, name);
	return 0;
}

static void stop_signal(struct conf_scope *s)
{
	const config_setting_t *at = conf_get(s->g, "stop_signal");
	int sig = at ? signal_number(s->c, at, "stop_signal", config_setting_get_string(at)) : 0;

	if (sig > 0)
		s->spec.worker.stop_signal = (uint8_t)sig;
	s->spec.worker.kill_group = conf_get_bool(s->g, "kill_group", true);
}

static void success_signal(struct conf_scope *s, const config_setting_t *e)
{
	int sig = signal_number(s->c, e, "success", config_setting_get_string(e));

	if (sig > 63) /* the image has bits up to 63 */
		conf_error(s->c, e, "`success`: signal %d cannot count as success", sig);
	else if (sig > 0)
		s->spec.worker.success_signals |= UINT64_C(1) << sig;
}

static void success(struct conf_scope *s)
{
	const config_setting_t *list = conf_get(s->g, "success");
	int i, n = list ? config_setting_length(list) : 0;

	for (i = 0; i < n; i++) {
		const config_setting_t *e = config_setting_get_elem(list, (unsigned)i);
		int64_t code = conf_is_int(e) ? conf_int(e) : -1;

		if (!conf_is_int(e))
			success_signal(s, e);
		else if (code < 0 || code > 255)
			conf_error(s->c, e, "`success` has the exit code %lld; exit codes are 0 to 255",
			    (long long)code);
		else
			s->spec.worker.success_codes[code / 64] |= UINT64_C(1) << code % 64;
	}
}

/* --- waiting before a restart --- */

static uint32_t factor_milli(const config_setting_t *g)
{
	const config_setting_t *s = conf_get(g, "factor");

	if (!s)
		return 2000;
	if (conf_is_int(s))
		return (uint32_t)conf_int(s) * 1000;
	return (uint32_t)(config_setting_get_float(s) * 1000 + 0.5);
}

static void backoff(struct conf_scope *s)
{
	config_setting_t *g = conf_get(s->g, "backoff");
	struct sup_backoff *b = &s->spec.sup.backoff;

	if (!g)
		return;
	conf_keys_check(s->c, g, WHERE_BACKOFF);
	b->min_ms = (uint32_t)conf_get_int(g, "min", 100);
	b->max_ms = (uint32_t)conf_get_int(g, "max", b->min_ms > 30000 ? b->min_ms : 30000);
	b->factor_milli = factor_milli(g);
	b->reset_ms = (uint32_t)conf_get_int(g, "reset", 60000);
	if (b->min_ms > b->max_ms)
		conf_error(s->c, conf_get(g, "max") ? conf_get(g, "max") : g,
		    "`backoff`: `min` (%u) is greater than `max` (%u)", b->min_ms, b->max_ms);
}

void conf_worker(struct conf_scope *s)
{
	conf_worker_defaults(&s->spec.worker);
	exec(s);
	place(s);
	conf_identity(s);
	conf_environment(s);
	limits(s);
	stop_signal(s);
	success(s);
	backoff(s);
	s->spec.worker.watchdog_ms = (uint32_t)conf_get_int(s->g, "watchdog", 0);
	conf_sockets(s);
	conf_log(s);
	conf_ready(s);
	conf_server(s);
}
