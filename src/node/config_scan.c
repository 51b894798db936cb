/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * From files to one text that libconfig may parse. libconfig would open included files by itself
 * and anywhere, cut numbers to 32 bits, stop at a NUL and at the first duplicate key, and place
 * errors in no more than a line. So each file is read here, its tokens are recognised (never
 * its grammar: that stays the library's) and copied, with these changes:
 *
 *  - @include is replaced by the file's text; a table says where each line came from;
 *  - comments are left out;
 *  - whole numbers that need 64 bits get an L; those with a leading zero are octal, as in C, and
 *    the only ones that the library sees in hexadecimal: so its users can tell them;
 *  - a key that stands a second time in its group gets a name of its own and is an error.
 *
 * On the way brackets are matched, so that a syntax error can be explained. Parser process.
 */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "node/config_private.h"

#define DEPTH_MAX 1024 /* of brackets: above what ids of one letter can nest */
#define KEYS_MAX 4096  /* of one group: the library compares each with each */

struct open_bracket {
	char c;
	struct conf_pos pos;
	uint32_t serial;       /* of the group, for its keys */
	uint32_t n_keys;
};

struct scan {
	struct conf *c;
	struct conf_doc *doc;
	bool includes;
	const char *p, *end;           /* of the present file */
	struct conf_pos pos;
	bool fresh;                    /* only blanks so far on this line */
	struct open_bracket brackets[DEPTH_MAX + 1]; /* [0] is the text as a whole, a group */
	size_t depth;                  /* of open ones; the innermost is brackets[depth] */
	uint32_t serial;
	struct conf_map *keys;       /* "SERIAL NAME" */
	unsigned duplicates;
	struct { dev_t dev; ino_t ino; } chain[CONF_INCLUDE_DEPTH];
	size_t n_chain;
	char last;                     /* the token before: its first byte, or 'v' for a value's end */
	struct conf_scan_hint *hint;
};

static void scan_file(struct scan *s, const char *text, size_t len, uint32_t file);

/* --- output --- */

static void line_begins(struct scan *s)
{
	struct conf_doc *d = s->doc;

	if (d->n_lines == d->cap_lines) {
		d->cap_lines = d->cap_lines * 2 + 64;
		d->lines = conf_realloc(d->lines, d->cap_lines * sizeof(*d->lines));
	}
	d->lines[d->n_lines++] = s->pos;
}

static void emit_newline(struct scan *s)
{
	conf_buf_add(&s->doc->text, "\n", 1);
	line_begins(s);
}

/* Counts and copies a newline of the file. */
static void newline(struct scan *s)
{
	s->pos.line++;
	emit_newline(s);
	s->fresh = true;
}

static void emit(struct scan *s, const char *from, const char *to)
{
	conf_buf_add(&s->doc->text, from, (size_t)(to - from));
	s->fresh = false;
}

/* --- blanks, comments, strings --- */

static bool starts(const struct scan *s, const char *what)
{
	size_t len = strlen(what);

	return (size_t)(s->end - s->p) >= len && memcmp(s->p, what, len) == 0;
}

static void line_comment(struct scan *s)
{
	while (s->p < s->end && *s->p != '\n')
		s->p++;
}

static void unclosed(struct scan *s, struct conf_pos begin, const char *what)
{
	struct conf_pos other = s->hint->long_string;

	if (other.line != 0 && (other.line != begin.line || other.file != begin.file))
		conf_error_pos(s->c, begin, "syntax error: the %s that begins here is never closed; "
		    "or is it the one of %s, which goes over several lines?", what, conf_place(s->c, begin, other));
	else
		conf_error_pos(s->c, begin, "syntax error: the %s that begins here is never closed", what);
	s->hint->fatal = true;
}

static void block_comment(struct scan *s)
{
	struct conf_pos begin = s->pos;

	conf_buf_add(&s->doc->text, " ", 1);
	for (s->p += 2; s->p < s->end && !starts(s, "*/"); s->p++)
		if (*s->p == '\n')
			newline(s);
	if (s->p >= s->end)
		unclosed(s, begin, "comment");
	else
		s->p += 2;
	s->fresh = false;
}

static bool is_nul_escape(const struct scan *s)
{
	return starts(s, "\\x00") || starts(s, "\\X00");
}

static void string(struct scan *s)
{
	struct conf_pos begin = s->pos;
	const char *from = s->p++;

	while (s->p < s->end && *s->p != '"') {
		if (is_nul_escape(s))
			conf_error_pos(s->c, s->pos, "a string cannot hold a NUL byte");
		if (*s->p == '\0') {
			emit(s, from, s->p);
			from = s->p + 1;
		} else if (*s->p == '\n') {
			emit(s, from, s->p);
			newline(s);
			from = s->p + 1;
		} else if (*s->p == '\\' && s->p + 1 < s->end && (s->p[1] == '"' || s->p[1] == '\\')) {
			s->p++;
		}
		s->p++;
	}
	if (s->pos.line != begin.line && s->hint->long_string.line == 0)
		s->hint->long_string = begin;
	if (s->p >= s->end) {
		unclosed(s, begin, "string");
	} else {
		emit(s, from, ++s->p);
	}
}

/* --- brackets --- */

static void bracket_hint(struct scan *s, const char *text)
{
	if (s->hint->bracket[0] == '\0')
		snprintf(s->hint->bracket, sizeof s->hint->bracket, "%s", text);
}

/* What follows is too much for the library. */
static void give_up(struct scan *s)
{
	s->hint->fatal = true;
	s->p = s->end;
}

static void open_bracket(struct scan *s)
{
	if (s->depth == DEPTH_MAX) {
		conf_error_pos(s->c, s->pos, "brackets are nested deeper than %d", DEPTH_MAX);
		give_up(s);
		return;
	}
	s->brackets[++s->depth] = (struct open_bracket){ *s->p, s->pos, ++s->serial, 0 };
	emit(s, s->p, s->p + 1);
	s->p++;
}

static void close_bracket(struct scan *s)
{
	char c = *s->p, want = c == '}' ? '{' : c == ']' ? '[' : '(';
	const struct open_bracket *b;

	if (s->depth == 0) {
		bracket_hint(s, conf_printf("`%c` closes nothing", c));
	} else {
		b = &s->brackets[s->depth--];
		if (b->c != want)
			bracket_hint(s, conf_printf("`%c` stands where the `%c` of %s is to be closed", c,
			    b->c, conf_place(s->c, s->pos, b->pos)));
	}
	emit(s, s->p, s->p + 1);
	s->p++;
}

static void end_of_text(struct scan *s)
{
	const struct open_bracket *b;

	if (s->depth == 0)
		return;
	b = &s->brackets[s->depth];
	bracket_hint(s, conf_printf("the `%c` of %s is never closed", b->c,
	    conf_place(s->c, s->pos, b->pos)));
}

/* --- commas --- */

static void comma_hint(struct scan *s, const char *fmt, char c)
{
	struct conf_scan_hint *h = s->hint;

	if (h->comma[0] != '\0')
		return;
	snprintf(h->comma, sizeof h->comma, "%s `%c`", fmt, c);
	h->comma_pos = s->pos;
}

/* Looks at a token's first byte: between the elements of a list there is one comma. Strings may
 * stand side by side. */
static void commas(struct scan *s, char c)
{
	char in = s->brackets[s->depth].c;

	if (in == '(' || in == '[') {
		if (s->last == 'v' && c != '\0' && strchr("{[(+-0123456789", c))
			comma_hint(s, "a comma is missing before", c);
		else if ((s->last == ',' || s->last == in) && c == ',')
			comma_hint(s, "there is a comma too many before", c);
		else if (s->last == ',' && (c == ')' || c == ']'))
			comma_hint(s, "there is a comma too many before", c);
		else if (s->last == 'v' && c == ';')
			comma_hint(s, "elements are separated by commas, not by", c);
	}
	s->last = c == '"' || c == '}' || c == ']' || c == ')' || isalnum((unsigned char)c) ? 'v' : c;
}

/* --- names --- */

static bool is_name_start(char c)
{
	return isalpha((unsigned char)c) || c == '*';
}

static bool is_name(char c)
{
	return isalnum((unsigned char)c) || c == '-' || c == '_' || c == '*';
}

/* Tells whether what follows makes the word just read a key. */
static bool before_equals(const struct scan *s)
{
	const char *p = s->p;

	while (p < s->end && (*p == ' ' || *p == '\t' || *p == '\r' || *p == '\n'))
		p++;
	return p < s->end && (*p == '=' || *p == ':');
}

static bool in_group(const struct scan *s)
{
	return s->brackets[s->depth].c == '{';
}

/* Checks a key; true if it must not reach the parser under its own name. */
static bool bad_key(struct scan *s, const char *name, size_t len)
{
	struct open_bracket *group = &s->brackets[s->depth];
	char *key = conf_printf("%u %.*s", group->serial, (int)len, name);
	const struct conf_pos *first = conf_map_put(s->keys, key, s->pos);

	conf_free(key);
	if (first)
		conf_error_pos(s->c, s->pos, "duplicate key `%.*s`; the first is in %s", (int)len, name,
		    conf_place(s->c, s->pos, *first));
	else if (*name == '*')
		conf_error_pos(s->c, s->pos, "unknown key `%.*s`", (int)len, name);
	if (++group->n_keys > KEYS_MAX) {
		conf_error_pos(s->c, s->pos, "more than %d keys in one group", KEYS_MAX);
		give_up(s);
	}
	return first || *name == '*';
}

/* A word where a value is expected is most often a string without its quotes. */
static void word_hint(struct scan *s, const char *word, size_t len)
{
	struct conf_scan_hint *h = s->hint;

	if (h->word[0] != '\0' || len >= sizeof h->word || (len == 4 && strncasecmp(word, "true", 4) == 0) ||
	    (len == 5 && strncasecmp(word, "false", 5) == 0))
		return;
	memcpy(h->word, word, len);
	h->word_pos = s->pos;
}

static void name(struct scan *s)
{
	const char *from = s->p;
	char fresh_name[64];

	while (s->p < s->end && is_name(*s->p))
		s->p++;
	if (!before_equals(s))
		word_hint(s, from, (size_t)(s->p - from));
	if (!in_group(s) || !before_equals(s) || !bad_key(s, from, (size_t)(s->p - from))) {
		emit(s, from, s->p);
		return;
	}
	snprintf(fresh_name, sizeof fresh_name, CONF_DUPLICATE_PREFIX "%u", s->duplicates++);
	emit(s, fresh_name, fresh_name + strlen(fresh_name));
}

/* libconfig's names begin with a letter; those of the environment need not. */
static void underscore(struct scan *s)
{
	const char *from = s->p;

	while (s->p < s->end && is_name(*s->p))
		s->p++;
	if (in_group(s) && before_equals(s))
		conf_error_pos(s->c, s->pos, "syntax error: a key cannot begin with _; for a variable of the "
		    "environment write env = [ \"%.*s=value\" ]", (int)(s->p - from), from);
	emit(s, from, s->p);
}

/* --- numbers --- */

struct number {
	const char *from, *digits, *to; /* to: behind the digits */
	bool negative, hex, octal, is_long;
};

/* Reads a whole number at s->p; false if it is something else that begins like one. */
static bool whole_number(const struct scan *s, struct number *n, const char **end_r)
{
	const char *p = s->p;

	*n = (struct number){ .from = p, .negative = *p == '-' };
	if (*p == '-' || *p == '+')
		p++;
	if (p + 1 < s->end && p == n->from && p[0] == '0' && (p[1] == 'x' || p[1] == 'X')) {
		n->hex = true;
		p += 2;
	}
	n->digits = p;
	while (p < s->end && (n->hex ? isxdigit((unsigned char)*p) : isdigit((unsigned char)*p)))
		p++;
	n->to = p;
	n->octal = !n->hex && n->to - n->digits > 1 && *n->digits == '0';
	n->is_long = p < s->end && *p == 'L';
	if (n->is_long)
		p += p + 1 < s->end && p[1] == 'L' ? 2 : 1;
	*end_r = p;
	return n->to > n->digits && (p >= s->end || !(is_name(*p) || *p == '.' || *p == '+'));
}

/* The value; false if it does not fit into 64 bits or has a digit that its base has not. */
static bool value_of(const struct number *n, int64_t *v_r)
{
	int base = n->hex ? 16 : n->octal ? 8 : 10;
	const char *p;
	int64_t v = 0;

	for (p = n->digits; p < n->to; p++) {
		int c = tolower((unsigned char)*p), d = c >= 'a' ? c - 'a' + 10 : c - '0';

		if (d >= base || __builtin_mul_overflow(v, base, &v) ||
		    (n->negative ? __builtin_sub_overflow(v, d, &v) : __builtin_add_overflow(v, d, &v)))
			return false;
	}
	*v_r = v;
	return true;
}

static bool has_8_or_9(const struct number *n)
{
	size_t len = (size_t)(n->to - n->digits);

	return memchr(n->digits, '8', len) || memchr(n->digits, '9', len);
}

static void number_error(struct scan *s, const struct number *n)
{
	int len = (int)(n->to - n->from);

	if (n->octal && has_8_or_9(n))
		conf_error_pos(s->c, s->pos, "%.*s: a leading zero makes a number octal, and 8 and 9 are "
		    "no octal digits", len, n->from);
	else
		conf_error_pos(s->c, s->pos, "%.*s: the number does not fit into 64 bits", len, n->from);
}

static void number(struct scan *s)
{
	const char *end, *from = s->p;
	struct number n;
	char text[64];
	int64_t v = 0;

	if (!whole_number(s, &n, &end)) {
		while (s->p < s->end && (is_name(*s->p) || *s->p == '.' || *s->p == '+'))
			s->p++;
		if (s->p == from)
			s->p++;
		emit(s, from, s->p);
		return;
	}
	if (!value_of(&n, &v))
		number_error(s, &n);
	snprintf(text, sizeof text, n.octal && v >= 0 ? "0x%" PRIx64 "%s" : "%" PRId64 "%s", v,
	    n.is_long || v > INT32_MAX || v < INT32_MIN ? "L" : "");
	emit(s, text, text + strlen(text));
	s->p = end;
}

static bool number_starts(const struct scan *s)
{
	const char *p = s->p + (*s->p == '+' || *s->p == '-');

	if (p < s->end && *p == '.')
		p++;
	return p < s->end && isdigit((unsigned char)*p);
}

/* --- @include --- */

/* The directive's file name, unescaped; NULL after an error. */
static char *include_name(struct scan *s)
{
	struct conf_buf b = { 0 };

	s->p += strlen("@include");
	while (s->p < s->end && (*s->p == ' ' || *s->p == '\t'))
		s->p++;
	if (s->p >= s->end || *s->p != '"') {
		conf_error_pos(s->c, s->pos, "syntax error: @include is followed by a file's name in quotes");
		return NULL;
	}
	for (s->p++; s->p < s->end && *s->p != '"' && *s->p != '\n' && *s->p != '\0'; s->p++) {
		if (*s->p == '\\' && s->p + 1 < s->end && (s->p[1] == '"' || s->p[1] == '\\'))
			s->p++;
		conf_buf_add(&b, s->p, 1);
	}
	if (s->p >= s->end || *s->p != '"') {
		conf_error_pos(s->c, s->pos, "syntax error: the file's name is never closed");
		return NULL;
	}
	s->p++;
	return b.data ? b.data : conf_strdup("");
}

/* A name as the including file's directory and what was written there. */
static char *beside(const struct scan *s, const char *name)
{
	const char *here = s->c->files[s->pos.file], *slash = strrchr(here, '/');

	if (name[0] == '/' || !slash)
		return conf_strdup(name);
	return conf_printf("%.*s/%s", (int)(slash - here), here, name);
}

static bool in_chain(const struct scan *s, const struct conf_found *found)
{
	size_t i;

	for (i = 0; i < s->n_chain; i++)
		if (s->chain[i].dev == found->dev && s->chain[i].ino == found->ino)
			return true;
	return false;
}

/* Reads what an @include names; NULL after an error. */
static struct conf_buf *include_read(struct scan *s, const char *path, struct conf_found *found)
{
	struct conf_buf *b = conf_alloc(sizeof(*b));
	char why[CONF_WHY_MAX];
	int r;

	r = conf_safe_open(path, found, why);
	if (r == 0 && !conf_safe_inside(s->c->home, found->real)) {
		snprintf(why, sizeof why, "refused: it is outside the configuration's directory");
		r = -1;
	}
	if (r == 0 && in_chain(s, found)) {
		snprintf(why, sizeof why, "refused: it includes itself");
		r = -1;
	}
	if (r == 0 && s->n_chain == CONF_INCLUDE_DEPTH) {
		snprintf(why, sizeof why, "refused: files are included deeper than %d", CONF_INCLUDE_DEPTH);
		r = -1;
	}
	if (r == 0)
		r = conf_safe_slurp(found, CONF_TEXT_MAX, b, why);
	if (r < 0) {
		conf_error_pos(s->c, s->pos, "unable to include %s: %s", path, why);
		return NULL;
	}
	return b;
}

static void include_file(struct scan *s, const char *path)
{
	struct conf_pos pos = s->pos;
	const char *p = s->p, *end = s->end;
	struct conf_found found = { .fd = -1 };
	struct conf_buf *b = include_read(s, path, &found);

	conf_safe_close(&found);
	if (!b || s->doc->text.len + b->len > CONF_TEXT_MAX) {
		if (b)
			conf_error_pos(s->c, pos, "with %s the configuration is larger than %u bytes", path,
			    CONF_TEXT_MAX);
		return;
	}
	s->n_chain++;
	s->chain[s->n_chain - 1].dev = found.dev;
	s->chain[s->n_chain - 1].ino = found.ino;
	scan_file(s, b->data, b->len, conf_error_file(s->c, path));
	s->n_chain--;
	conf_free(b->data);
	s->pos = pos;
	s->p = p;
	s->end = end;
	emit_newline(s);
	s->fresh = false;
}

static void include(struct scan *s)
{
	bool fresh = s->fresh;
	char *name_;

	if (!starts(s, "@include")) {
		emit(s, s->p, s->p + 1); /* the parser complains */
		s->p++;
		return;
	}
	name_ = include_name(s);
	if (name_ && !s->includes)
		conf_error_pos(s->c, s->pos, "@include is not allowed here");
	else if (name_ && !fresh)
		conf_error_pos(s->c, s->pos, "@include must stand on a line of its own");
	else if (name_)
		include_file(s, beside(s, name_));
}

/* --- a file --- */

/* Goes over one blank or comment; false if something else is here. */
static bool blank(struct scan *s)
{
	char c = *s->p;

	if (c == '\n') {
		newline(s);
		s->p++;
	} else if (c == ' ' || c == '\t' || c == '\r' || c == '\f') {
		conf_buf_add(&s->doc->text, " ", 1);
		s->p++;
	} else if (c == '#' || starts(s, "//")) {
		line_comment(s);
	} else if (starts(s, "/*")) {
		block_comment(s);
	} else {
		return false;
	}
	return true;
}

static void token(struct scan *s)
{
	char c = *s->p;

	if (blank(s))
		return;
	commas(s, c);
	if (c == '"') {
		string(s);
	} else if (strchr("{[(", c) && c != '\0') {
		open_bracket(s);
	} else if (strchr("}])", c) && c != '\0') {
		close_bracket(s);
	} else if (c == '@') {
		include(s);
	} else if (number_starts(s)) {
		number(s);
	} else if (is_name_start(c)) {
		name(s);
	} else if (c == '_') {
		underscore(s);
	} else {
		emit(s, s->p, s->p + (c != '\0'));
		s->p++;
	}
}

static void nul_bytes(struct scan *s)
{
	const char *nul = memchr(s->p, '\0', (size_t)(s->end - s->p)), *p;
	struct conf_pos pos = s->pos;

	if (!nul)
		return;
	for (p = s->p; (p = memchr(p, '\n', (size_t)(nul - p))); p++)
		pos.line++;
	conf_error_pos(s->c, pos, "a NUL byte: this is not a text file");
	s->hint->fatal = true;
}

static void scan_file(struct scan *s, const char *text, size_t len, uint32_t file)
{
	s->p = text ? text : "";
	s->end = s->p + len;
	s->pos = (struct conf_pos){ file, 1 };
	s->fresh = true;
	if (s->doc->n_lines > 0)
		conf_buf_add(&s->doc->text, "\n", 1);
	line_begins(s);
	nul_bytes(s);
	while (s->p < s->end)
		token(s);
}

static struct scan *scan_create(struct conf *c, struct conf_doc *doc, struct conf_scan_hint *hint)
{
	struct scan *s = conf_alloc(sizeof(*s));

	memset(hint, 0, sizeof(*hint));
	s->c = c;
	s->doc = doc;
	s->hint = hint;
	s->keys = conf_map_create();
	s->brackets[0].c = '{';
	return s;
}

void conf_scan(struct conf *c, struct conf_doc *doc, const char *name_, const struct conf_found *found,
    const char *text, size_t len, struct conf_scan_hint *hint_r)
{
	struct scan *s = scan_create(c, doc, hint_r);

	s->includes = found != NULL;
	if (found) {
		s->n_chain = 1;
		s->chain[0].dev = found->dev;
		s->chain[0].ino = found->ino;
	}
	scan_file(s, text, len, conf_error_file(c, name_));
	end_of_text(s);
	conf_buf_add(&doc->text, "\n", 1);
	conf_free(s);
}
