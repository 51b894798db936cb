/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The command with an item in it: {} and its kind become text of the item, and no shell reads the result. Also its
 * inverse for people, a line that a shell would read as the same words, and the search for the program. Runs in the
 * runner; the strings belong to the slot.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "map/map_private.h"

enum part { PART_TEXT, PART_ITEM, PART_NO_EXT, PART_BASE, PART_DIR, PART_BASE_NO_EXT, PART_SEQ, PART_SLOT };

static const struct {
	const char *text;
	enum part part;
} parts[] = {
	{ "{}", PART_ITEM }, { "{.}", PART_NO_EXT }, { "{/}", PART_BASE }, { "{//}", PART_DIR },
	{ "{/.}", PART_BASE_NO_EXT }, { "{#}", PART_SEQ }, { "{%}", PART_SLOT },
};

/* What begins at s, and how long it is there. */
static enum part part_at(const char *s, size_t *len_r)
{
	size_t i;

	for (i = 0; s[0] == '{' && i < sizeof parts / sizeof parts[0]; i++) {
		*len_r = strlen(parts[i].text);
		if (strncmp(s, parts[i].text, *len_r) == 0)
			return parts[i].part;
	}
	*len_r = 1 + strcspn(s + 1, "{");
	return PART_TEXT;
}

static bool is_of_item(enum part p)
{
	return p != PART_TEXT && p != PART_SEQ && p != PART_SLOT;
}

static bool has(const char *word, bool of_item)
{
	enum part p;
	size_t len;

	for (; *word != '\0'; word += len) {
		p = part_at(word, &len);
		if (of_item ? is_of_item(p) : p != PART_TEXT)
			return true;
	}
	return false;
}

void words_init(struct words *w, const struct map_options *o)
{
	size_t i;

	*w = (struct words){ .word = o->cmd, .n = o->n_cmd, .append = !o->pipe, .fixed = !has(o->cmd[0], false) };
	for (i = 0; i < w->n; i++)
		if (has(w->word[i], true))
			w->append = false;
}

/* --- expanding --- */

static void add(struct strings *s, const char *text, size_t len)
{
	MAP_ROOM(s->text, s->cap, s->len + len);
	memcpy(s->text + s->len, text, len);
	s->len += len;
}

static void begin(struct strings *s)
{
	MAP_ROOM(s->at, s->cap_at, s->n + 1);
	s->at[s->n++] = s->len;
}

static size_t without_slashes(const char *t, size_t n)
{
	while (n > 1 && t[n - 1] == '/')
		n--;
	return n;
}

static const char *base_of(const char *t, size_t *n)
{
	const char *slash;

	*n = without_slashes(t, *n);
	slash = memrchr(t, '/', *n);
	if (!slash || *n == 1)
		return t;
	*n -= (size_t)(slash + 1 - t);
	return slash + 1;
}

/* A dot that begins a name, or stands in a directory's, begins no extension. */
static size_t before_ext(const char *t, size_t n)
{
	const char *dot = memrchr(t, '.', n), *slash = memrchr(t, '/', n);

	if (!dot || dot == t || (slash && dot <= slash + 1))
		return n;
	return (size_t)(dot - t);
}

static void add_dir(struct strings *s, const char *t)
{
	size_t n = without_slashes(t, strlen(t));
	const char *slash = memrchr(t, '/', n);

	if (!slash)
		add(s, ".", 1);
	else
		add(s, t, without_slashes(t, slash == t ? 1 : (size_t)(slash - t)));
}

static void add_part(struct strings *s, enum part p, const char *t, const struct item *it, unsigned number)
{
	size_t n = strlen(t);
	char num[24];

	switch (p) {
	case PART_TEXT:
		break;
	case PART_ITEM:
		add(s, t, n);
		break;
	case PART_NO_EXT:
		add(s, t, before_ext(t, n));
		break;
	case PART_BASE:
	case PART_BASE_NO_EXT:
		t = base_of(t, &n);
		add(s, t, p == PART_BASE ? n : before_ext(t, n));
		break;
	case PART_DIR:
		add_dir(s, t);
		break;
	case PART_SEQ:
	case PART_SLOT:
		snprintf(num, sizeof num, "%llu", p == PART_SEQ ? (unsigned long long)it->seq : number);
		add(s, num, strlen(num));
		break;
	}
}

static void expand_word(struct strings *s, const char *word, const char *text, const struct item *it, unsigned number)
{
	enum part p;
	size_t len;

	begin(s);
	for (; *word != '\0'; word += len) {
		p = part_at(word, &len);
		if (p == PART_TEXT)
			add(s, word, len);
		else
			add_part(s, p, text, it, number);
	}
	add(s, "", 1);
}

static void finish(struct strings *s)
{
	size_t i;

	MAP_ROOM(s->argv, s->cap_argv, s->n + 1);
	for (i = 0; i < s->n; i++)
		s->argv[i] = s->text + s->at[i];
	s->argv[s->n] = NULL;
}

void words_expand(const struct words *w, const struct item *it, unsigned number, struct strings *s)
{
	const char *text;
	size_t i, k;

	s->len = s->n = 0;
	for (i = 0; i < w->n + (w->append ? 1 : 0); i++) {
		const char *word = i < w->n ? w->word[i] : "{}";

		if (!has(word, true)) {
			expand_word(s, word, "", it, number);
			continue;
		}
		/* a word with an item in it is there once for each */
		for (text = it->text, k = 0; k < it->n_args; k++, text += strlen(text) + 1)
			expand_word(s, word, text, it, number);
	}
	finish(s);
}

void strings_fini(struct strings *s)
{
	free(s->text);
	free(s->at);
	free(s->argv);
	*s = (struct strings){ 0 };
}

/* --- for people --- */

static bool is_plain(const char *s)
{
	return *s != '\0' && s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-")] == '\0';
}

/* Where a command begins, a shell takes these for something else. */
static bool is_special(const char *s)
{
	static const char *const reserved[] = { "if", "then", "elif", "else", "fi", "case", "esac", "for", "select", "while",
		"until", "do", "done", "in", "function", "time", "coproc" };
	size_t i;

	for (i = 0; i < sizeof reserved / sizeof reserved[0]; i++)
		if (strcmp(s, reserved[i]) == 0)
			return true;
	return strchr(s, '=') != NULL;
}

static bool is_space(char c)
{
	return c == '\n' || c == '\t' || c == '\r';
}

/* What single quotes cannot have: with one_line, anything that is not to be seen, else what a terminal may obey. */
static bool has_control(const char *s, bool one_line)
{
	for (; *s != '\0'; s++)
		if (((unsigned char)*s < 0x20 || *s == 0x7f) && (one_line || !is_space(*s)))
			return true;
	return false;
}

struct text {
	char *buf;
	size_t len, size;
};

static void put(struct text *t, char c)
{
	if (t->len < t->size)
		t->buf[t->len++] = c;
}

static void put_str(struct text *t, const char *s)
{
	while (*s != '\0')
		put(t, *s++);
}

/* $'...', which not every shell knows. */
static void quote_control(struct text *t, const char *s)
{
	char esc[8];

	put_str(t, "$'");
	for (; *s != '\0'; s++) {
		if (*s == '\n')
			put_str(t, "\\n");
		else if (*s == '\t')
			put_str(t, "\\t");
		else if ((unsigned char)*s < 0x20 || *s == 0x7f) {
			snprintf(esc, sizeof esc, "\\x%02x", (unsigned char)*s);
			put_str(t, esc);
		} else {
			if (*s == '\'' || *s == '\\')
				put(t, '\\');
			put(t, *s);
		}
	}
	put(t, '\'');
}

static void quote(struct text *t, const char *s, bool first, bool one_line)
{
	if (is_plain(s) && !(first && is_special(s))) {
		put_str(t, s);
		return;
	}
	if (has_control(s, one_line)) {
		quote_control(t, s);
		return;
	}
	put(t, '\'');
	for (; *s != '\0'; s++) {
		if (*s == '\'')
			put_str(t, "'\\''");
		else
			put(t, *s);
	}
	put(t, '\'');
}

size_t words_quote(const struct strings *s, bool one_line, char *buf, size_t size)
{
	struct text t = { buf, 0, size };
	size_t i;

	for (i = 0; i < s->n; i++) {
		if (i > 0)
			put(&t, ' ');
		quote(&t, s->argv[i], i == 0, one_line);
	}
	return t.len;
}

/* --- the program --- */

static int try_program(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return errno;
	if (!S_ISREG(st.st_mode))
		return EACCES;
	return access(path, X_OK) < 0 ? errno : 0;
}

int words_find(const char *name, char *path, size_t size)
{
	const char *dir = getenv("PATH");
	int err = ENOENT, one;
	size_t n;

	if (strlen(name) >= size)
		return ENAMETOOLONG;
	if (strchr(name, '/') || name[0] == '\0') {
		memcpy(path, name, strlen(name) + 1);
		return try_program(path);
	}
	if (!dir)
		dir = "/usr/local/bin:/usr/bin:/bin";
	for (;; dir += n + 1) {
		n = strcspn(dir, ":");
		if ((size_t)snprintf(path, size, "%.*s/%s", n > 0 ? (int)n : 1, n > 0 ? dir : ".", name) < size) {
			one = try_program(path);
			if (one == 0)
				return 0;
			if (one == EACCES)
				err = EACCES;
		}
		if (dir[n] == '\0')
			return err;
	}
}
