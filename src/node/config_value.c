/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Values of keys that passed the table (config_keys.c), in the forms their users want: numbers of
 * both widths, permission bits, paths, strings with a child's number in them. A key that is absent
 * and one that was found wrong look the same here, so that one mistake gives one error.
 * Parser process.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "node/config_private.h"

bool conf_has(const config_setting_t *group, const char *key)
{
	return config_setting_get_member(group, key) != NULL;
}

config_setting_t *conf_get(const config_setting_t *group, const char *key)
{
	config_setting_t *s = config_setting_get_member(group, key);

	return s && !conf_is_marked(s) ? s : NULL;
}

bool conf_is_int(const config_setting_t *s)
{
	return config_setting_type(s) == CONFIG_TYPE_INT || config_setting_type(s) == CONFIG_TYPE_INT64;
}

int64_t conf_int(const config_setting_t *s)
{
	return config_setting_type(s) == CONFIG_TYPE_INT64 ? config_setting_get_int64(s) :
	    config_setting_get_int(s);
}

int64_t conf_get_int(const config_setting_t *group, const char *key, int64_t def)
{
	const config_setting_t *s = conf_get(group, key);

	return s && conf_is_int(s) ? conf_int(s) : def;
}

bool conf_get_bool(const config_setting_t *group, const char *key, bool def)
{
	const config_setting_t *s = conf_get(group, key);

	return s ? config_setting_get_bool(s) : def;
}

const char *conf_get_str(const config_setting_t *group, const char *key)
{
	const config_setting_t *s = conf_get(group, key);

	return s ? config_setting_get_string(s) : NULL;
}

int conf_get_choice(const config_setting_t *group, const char *key, unsigned where, int def)
{
	const char *const *values = conf_keys_values(key, where);
	const char *s = conf_get_str(group, key);
	int i;

	for (i = 0; s && values && values[i]; i++)
		if (strcmp(values[i], s) == 0)
			return i;
	return def;
}

/* --- permission bits --- */

static bool octal_string(const char *s, int *v_r)
{
	if (s[0] == '\0' || strspn(s, "01234567") != strlen(s) || strlen(s) > 5)
		return false;
	*v_r = (int)strtol(s, NULL, 8);
	return true;
}

/* libconfig has no octal numbers; config_scan.c makes hexadecimal ones of them, and of nothing
 * else. Any other number but 0 was most likely meant to be octal: 22, but also 18, must not
 * silently become other permissions than those that chmod(1) would give. */
static bool is_octal(const config_setting_t *s)
{
	return conf_int(s) == 0 || config_setting_get_format(s) == CONFIG_FORMAT_HEX;
}

int conf_get_octal(struct conf *c, const config_setting_t *group, const char *key, int def)
{
	const config_setting_t *s = conf_get(group, key);
	int v;

	if (!s)
		return def;
	if (config_setting_get_string(s)) {
		if (!octal_string(config_setting_get_string(s), &v)) {
			conf_error(c, s, "`%s` is \"%s\"; it must be an octal number, as 022", key,
			    config_setting_get_string(s));
			return -1;
		}
	} else if (!is_octal(s)) {
		conf_error(c, s, "`%s` is %lld in decimal; it must be written in octal, with a leading zero, as 022",
		    key, (long long)conf_int(s));
		return -1;
	} else {
		v = conf_int(s) >= 0 && conf_int(s) <= INT_MAX ? (int)conf_int(s) : INT_MAX;
	}
	if (v > 0777) {
		conf_error(c, s, "`%s` must be an octal number from 0 to 0777", key);
		return -1;
	}
	return v;
}

/* --- strings of instances --- */

const char *conf_expand(const struct conf_scope *s, const char *str)
{
	struct conf_buf b = { 0 };

	if (s->instance < 0 || !strchr(str, '%'))
		return str;
	conf_buf_puts(&b, "");
	for (; *str; str++) {
		if (str[0] == '%' && str[1] == 'i')
			conf_buf_puts(&b, conf_printf("%ld", s->instance));
		else
			conf_buf_add(&b, str, 1);
		if (str[0] == '%' && (str[1] == 'i' || str[1] == '%'))
			str++;
	}
	return b.data;
}

/* --- paths --- */

bool conf_path_ok(struct conf *c, const config_setting_t *at, const char *what, const char *path, size_t max)
{
	if (path[0] != '/')
		conf_error(c, at, "%s is \"%s\"; it must be an absolute path, beginning with /", what, path);
	else if (strlen(path) >= max)
		conf_error(c, at, "%s is %zu bytes long; at most %zu are possible", what, strlen(path), max - 1);
	else
		return true;
	return false;
}

const char *conf_get_path(const struct conf_scope *s, const config_setting_t *group, const char *key)
{
	const config_setting_t *at = conf_get(group, key);
	const char *path = conf_get_str(group, key), *what = conf_printf("`%s`", key);

	if (!path)
		return NULL;
	path = conf_expand(s, path);
	return conf_path_ok(s->c, at, what, path, PATH_MAX) ? path : NULL;
}
