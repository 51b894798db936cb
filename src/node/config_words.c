/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * A child from words, as `coppice add SUPERVISOR key=value... -- CMD ARG...` gives them: they
 * are turned into the text of a group, and from there on it is a configuration like any other,
 * with the same keys and the same errors. A value is taken as it would stand in a file if it
 * parses so, by itself and as one value; else it is a string. Parser process.
 */
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "node/config_private.h"

static const struct conf_pos nowhere = { 0, 0 };

/* --- values --- */

/* Tells whether a value stands for itself in a file: nothing of it may reach beyond its own line. */
static bool is_value(const char *value)
{
	char *text = conf_printf("v = %s\n", value);
	config_setting_t *root;
	config_t cfg;
	bool ok;

	if (strstr(value, "@include") || strstr(value, "/*"))
		return false;
	config_init(&cfg);
	ok = config_read_string(&cfg, text) == CONFIG_TRUE;
	root = config_root_setting(&cfg);
	ok = ok && config_setting_length(root) == 1 && config_setting_get_member(root, "v");
	config_destroy(&cfg);
	conf_free(text);
	return ok;
}

static void put_string(struct conf_buf *b, const char *s)
{
	conf_buf_puts(b, "\"");
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			conf_buf_puts(b, "\\");
		conf_buf_add(b, s, 1);
	}
	conf_buf_puts(b, "\"");
}

static void put_value(struct conf_buf *b, const char *key, const char *value)
{
	bool quoted = value[strspn(value, " \t")] == '"';

	/* What can only be a string needs no quotes: id=7 */
	if ((conf_keys_is_string(key) && !quoted) || !is_value(value))
		put_string(b, value);
	else
		conf_buf_puts(b, value);
}

/* --- words --- */

static bool is_key(const char *s, size_t len)
{
	size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-");

	return len > 0 && n == len && strchr("0123456789_-", s[0]) == NULL;
}

static void put_word(struct conf *c, struct conf_buf *b, const char *word)
{
	size_t len = strcspn(word, "=");
	char *key = conf_printf("%.*s", (int)len, word);

	if (word[len] != '=') {
		conf_error_pos(c, nowhere, "\"%s\" is not key=value", word);
	} else if (!is_key(word, len)) {
		conf_error_pos(c, nowhere, "unknown key `%s`", key);
	} else {
		conf_buf_puts(b, conf_printf("%s = ", key));
		put_value(b, key, word + len + 1);
		conf_buf_puts(b, "\n");
	}
}

static bool has_key(const char *const *keys, const char *key)
{
	size_t len = strlen(key);

	for (; *keys; keys++)
		if (strncmp(*keys, key, len) == 0 && (*keys)[len] == '=')
			return true;
	return false;
}

void conf_words_command(struct conf_buf *b, const char *const *argv)
{
	size_t i;

	conf_buf_puts(b, "exec = ( ");
	for (i = 0; argv[i]; i++) {
		if (i > 0)
			conf_buf_puts(b, ", ");
		put_string(b, argv[i]);
	}
	conf_buf_puts(b, " )\n");
}

char *conf_words_text(struct conf *c, const char *const *keys, const char *const *argv)
{
	static const char *const none[] = { NULL };
	struct conf_buf b = { 0 };
	size_t i;

	keys = keys ? keys : none;
	argv = argv ? argv : none;
	conf_buf_puts(&b, "child = {\n");
	for (i = 0; keys[i]; i++)
		put_word(c, &b, keys[i]);
	if (has_key(keys, "instances"))
		conf_error_pos(c, nowhere, "`instances` is for the configuration file; add children one by one");
	if (argv[0] && !has_key(keys, "id"))
		conf_buf_puts(&b, conf_printf("id = \"%s-%06x\"\n", conf_words_id(argv[0]),
		    arc4random() & 0xffffff));
	if (argv[0])
		conf_words_command(&b, argv);
	conf_buf_puts(&b, "}\n");
	return b.data;
}

/* --- names --- */

char *conf_words_id(const char *program)
{
	const char *slash = strrchr(program, '/');
	char *id = conf_printf("%.50s", slash ? slash + 1 : program), *p;

	for (p = id; *p; p++)
		if ((p == id && strchr(".@-", *p)) || !strchr("abcdefghijklmnopqrstuvwxyz"
		    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.@-", *p))
			*p = '_';
	return id[0] != '\0' ? id : conf_strdup("command");
}
