/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * A worker's environment: the lines of env_file, then the entries of env; of equal names the
 * last one counts and stands where the first one stood. Since LD_PRELOAD may be among them, an
 * env_file has to be as safe as the configuration itself (config_safe.c). Parser process.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "node/config_private.h"

struct environment {
	char **v;       /* NAME=value */
	size_t n, cap;
};

/* --- entries --- */

static size_t name_length(const char *s)
{
	size_t n = 0;

	if (isdigit((unsigned char)s[0]))
		return 0;
	while ((s[n] >= 'a' && s[n] <= 'z') || (s[n] >= 'A' && s[n] <= 'Z') || s[n] == '_' ||
	    (s[n] >= '0' && s[n] <= '9'))
		n++;
	return n;
}

static bool is_env_name(const char *s)
{
	return s[0] != '\0' && s[name_length(s)] == '\0';
}

/* Takes NAME=value, replacing an earlier one of the name. */
static void set(struct environment *env, char *entry)
{
	size_t i, len = strcspn(entry, "=") + 1;

	for (i = 0; i < env->n; i++)
		if (strncmp(env->v[i], entry, len) == 0) {
			env->v[i] = entry;
			return;
		}
	if (env->n == env->cap) {
		env->cap = env->cap * 2 + 32;
		env->v = conf_realloc(env->v, env->cap * sizeof(*env->v));
	}
	env->v[env->n++] = entry;
}

/* --- env_file --- */

/* Takes one pair of quotes off a value; in place. */
static char *unquote(char *value)
{
	size_t len = strlen(value);

	while (len > 0 && (value[len - 1] == ' ' || value[len - 1] == '\t' || value[len - 1] == '\r'))
		value[--len] = '\0';
	if (len >= 2 && (value[0] == '"' || value[0] == '\'') && value[len - 1] == value[0]) {
		value[len - 1] = '\0';
		return value + 1;
	}
	return value;
}

/* What a line that is none was most likely meant to be. */
static const char *env_hint(const char *line, size_t n)
{
	if (strncmp(line, "export", 6) == 0 && (line[6] == ' ' || line[6] == '\t'))
		return "; write it without `export`: no shell reads it";
	if (n > 0 && line[n + strspn(line + n, " \t")] == '=')
		return "; there must be no blanks around =";
	return "";
}

static void env_line(struct conf_scope *s, struct environment *env, struct conf_pos pos, char *line)
{
	size_t n;

	line += strspn(line, " \t\r");
	if (line[0] == '\0' || line[0] == '#')
		return;
	n = name_length(line);
	if (n == 0 || line[n] != '=') {
		conf_error_pos(s->c, pos, "a line of an env_file is NAME=value, a comment (#) or empty%s",
		    env_hint(line, n));
		return;
	}
	line[n] = '\0';
	set(env, conf_printf("%s=%s", line, unquote(line + n + 1)));
}

static void env_text(struct conf_scope *s, struct environment *env, const char *path, char *text, size_t len)
{
	struct conf *c = s->c;
	struct conf_pos pos = { conf_error_file(c, path), 1 };
	char *end = text + len, *nl;

	if (memchr(text, '\0', len)) {
		conf_error_pos(c, pos, "a NUL byte: this is not a text file");
		return;
	}
	for (; text < end; text = nl + 1, pos.line++) {
		nl = memchr(text, '\n', (size_t)(end - text));
		if (!nl)
			nl = end;
		*nl = '\0';
		env_line(s, env, pos, text);
	}
}

/* A relative name is beside the configuration, as the user typed that. */
static const char *env_path(const struct conf *c, const char *name)
{
	const char *slash = c->file ? strrchr(c->file, '/') : NULL;

	if (name[0] == '/' || !slash)
		return name;
	return conf_printf("%.*s/%s", (int)(slash - c->file), c->file, name);
}

static void env_file(struct conf_scope *s, struct environment *env)
{
	const config_setting_t *at = conf_get(s->g, "env_file");
	const char *name = conf_get_str(s->g, "env_file"), *path;
	struct conf_found found;
	struct conf_buf b = { 0 };
	char why[CONF_WHY_MAX];
	bool optional;

	if (!name)
		return;
	name = conf_expand(s, name);
	optional = name[0] == '-';
	path = env_path(s->c, name + optional);
	if (optional && conf_safe_missing(path))
		return;
	if (conf_safe_open(path, &found, why) < 0 || conf_safe_slurp(&found, CONF_ENV_FILE_MAX, &b, why) < 0)
		conf_error(s->c, at, "unable to read the env_file %s: %s", path, why);
	else if (b.len > 0)
		env_text(s, env, path, b.data, b.len);
}

/* --- env --- */

static void env_member(struct conf_scope *s, struct environment *env, const config_setting_t *e)
{
	const char *name = config_setting_name(e), *value = config_setting_get_string(e);

	if (strncmp(name, CONF_DUPLICATE_PREFIX, strlen(CONF_DUPLICATE_PREFIX)) == 0)
		return;
	if (!is_env_name(name))
		conf_error(s->c, e, "`env` has the name `%s`; names are letters, digits and _, and begin with "
		    "no digit", name);
	else if (!value)
		conf_error(s->c, e, "`env`: the value of %s must be a string, not %s; write it in quotes", name,
		    conf_keys_found(e));
	else
		set(env, conf_printf("%s=%s", name, conf_expand(s, value)));
}

static void env_word(struct conf_scope *s, struct environment *env, const config_setting_t *e)
{
	const char *word = config_setting_get_string(e);
	size_t n = name_length(word);

	if (n == 0 || word[n] != '=')
		conf_error(s->c, e, "`env` has the element \"%s\"; it must be \"NAME=value\", its name of letters, "
		    "digits and _, beginning with no digit", word);
	else
		set(env, conf_printf("%.*s=%s", (int)n, word, conf_expand(s, word + n + 1)));
}

static void entries(struct conf_scope *s, struct environment *env)
{
	const config_setting_t *list = conf_get(s->g, "env");
	int i, n = list ? config_setting_length(list) : 0;

	for (i = 0; i < n; i++) {
		const config_setting_t *e = config_setting_get_elem(list, (unsigned)i);

		if (config_setting_is_group(list))
			env_member(s, env, e);
		else
			env_word(s, env, e);
	}
}

void conf_environment(struct conf_scope *s)
{
	struct environment all = { 0 };
	struct conf_vec v = { 0 };
	size_t i;

	s->spec.worker.env_clear = conf_get_bool(s->g, "env_clear", false);
	env_file(s, &all);
	entries(s, &all);
	for (i = 0; i < all.n; i++)
		conf_vec_add(&v, conf_image_str(&s->c->img, all.v[i]));
	s->spec.worker.env = conf_image_list(&s->c->img, &v);
}
