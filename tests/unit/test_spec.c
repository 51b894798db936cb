/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The image: what spec_check() takes can be walked from end to end whatever its bytes are,
 * spec_open() takes only what cannot change any more, paths find their children, and spec_diff()
 * tells exactly what a reload has to do.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "t.h"

#include "node/config_private.h"

/* --- helpers --- */

static int memfd(void)
{
	int fd = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	T_REQUIRE(fd >= 0);
	return fd;
}

/* A sealed image of a configuration's text. */
static int build(const char *text)
{
	int fd = memfd(), err = memfd();
	char buf[4096] = "";

	if (conf_job_run_text("./x.conf", text, strlen(text), fd, err) != CONF_EXIT_OK) {
		if (pread(err, buf, sizeof buf - 1, 0) < 0)
			buf[0] = '\0';
		T_FAIL("%s", buf);
		fflush(stdout);
		_exit(1);
	}
	close(err);
	return fd;
}

static void open_image(struct spec_image *img, const char *text)
{
	T_REQUIRE(spec_open(img, build(text)) == 0);
}

/* The same bytes in memory, where they can be damaged. */
static char *bytes_of(const char *text, size_t *size_r)
{
	struct stat st;
	int fd = build(text);
	char *p;

	T_REQUIRE(fstat(fd, &st) == 0);
	*size_r = (size_t)st.st_size;
	p = malloc(*size_r);
	T_REQUIRE(p && pread(fd, p, *size_r, 0) == (ssize_t)*size_r);
	close(fd);
	return p;
}

static const char rich[] =
    "node = \"n\"; supervisor: { strategy = \"one_for_all\"; children = (\n"
    "{ id = \"a\"; exec = [ \"x\", \"y z\" ]; env = { A = \"1\"; B = \"2\"; }; ready = \"log:x\"; instances = 2; },\n"
    "{ id = \"s\"; type = \"supervisor\"; children = (\n"
    "  { id = \"b\"; exec = [ \"x\" ]; dir = \"/\";\n"
    "    sockets = ( { listen = \"tcp::80\"; }, { listen = \"unix:/s\"; } ); },\n"
    "  { id = \"t\"; type = \"supervisor\";\n"
    "    children = ( { id = \"c\"; exec = [ \"x\" ]; log = { file = \"/l\"; }; } ); } ); },\n"
    "{ id = \"e\"; type = \"supervisor\"; },\n"
    "{ id = \"d\"; type = \"dynamic_supervisor\"; } ); };";

/* --- walking everything, so that a sanitizer sees every read --- */

static uint64_t seen; /* something that depends on every byte read */

static void see(const char *s)
{
	for (; s && *s; s++)
		seen = seen * 31 + (unsigned char)*s;
}

static void see_list(const struct spec_image *img, const struct spec_list *l, bool strings)
{
	uint32_t i;

	for (i = 0; i < l->count; i++) {
		if (strings)
			see(spec_list_str(img, l, i));
		else
			seen += spec_list_num(img, l, i);
	}
}

static void see_worker(const struct spec_image *img, const struct spec_worker *w)
{
	uint32_t i;

	see_list(img, &w->exec, true);
	see_list(img, &w->env, true);
	see_list(img, &w->groups, false);
	see(spec_string(img, w->dir));
	see(spec_string(img, w->module));
	see(spec_string(img, w->symbol));
	see(spec_string(img, w->name));
	see(spec_string(img, w->args));
	see(spec_string(img, w->user_name));
	see(spec_string(img, w->user_home));
	see(spec_string(img, w->user_shell));
	see(spec_string(img, w->ready_str));
	see(spec_string(img, w->log_dir));
	for (i = 0; i < w->sockets.count; i++) {
		const struct spec_socket *s = spec_socket_at(img, spec_list_num(img, &w->sockets, i));

		see(spec_string(img, s->key));
		see(spec_string(img, s->name));
		see(spec_string(img, s->addr));
	}
}

/* Returns the number of children below, bounded by what the header says. */
static uint32_t see_below(const struct spec_image *img, const struct spec_child *sup, unsigned depth)
{
	const struct spec_child *c;
	uint32_t n = 0;

	T_REQUIRE(depth < SPEC_PATH_MAX);
	for (c = spec_first_child(img, sup); c; c = spec_next_child(img, c)) {
		char again[SPEC_PATH_MAX];

		T_REQUIRE(++n <= img->h->n_children);
		T_REQUIRE(strlen(spec_string(img, c->path)) < sizeof again);
		see(spec_string(img, c->file));
		see(spec_type_name(c->type));
		see(spec_restart_name(c->sup.restart));
		seen += c->sup.significant + c->sup.enabled + c->sup.supervisor;
		T_CHECK(spec_find(img, strcpy(again, spec_string(img, c->path))) || spec_top(img)->path != 0);
		if (c->type == SPEC_WORKER)
			see_worker(img, &c->worker);
		else
			n += see_below(img, c, depth + 1);
	}
	return n;
}

static void see_all(const void *base)
{
	struct spec_image img = { .h = base, .fd = -1 };

	see(spec_string(&img, img.h->node));
	see(spec_string(&img, img.h->file));
	T_EQ_INT(see_below(&img, spec_top(&img), 0), img.h->n_children);
}

/* --- hostile memory --- */

T_CASE(sound_images_are_taken)
{
	size_t size;
	char *p = bytes_of(rich, &size);

	T_EQ_INT(spec_check(p, size), 0);
	see_all(p);
	free(p);
	p = bytes_of("supervisor: { };", &size);
	T_EQ_INT(spec_check(p, size), 0);
	see_all(p);
	free(p);
}

T_CASE(every_size_but_one_is_wrong)
{
	size_t size, n;
	char *p = bytes_of(rich, &size), *q;

	for (n = 0; n < size; n++) {
		q = malloc(n ? n : 1); /* of exactly this size, for the sanitizer */
		T_REQUIRE(q);
		memcpy(q, p, n);
		T_EQ_INT(spec_check(q, n), -1);
		free(q);
	}
	free(p);
}

T_CASE(every_byte_may_be_hostile)
{
	static const unsigned char values[] = { 0x00, 0x01, 0x02, 0x03, 0x7f, 0x80, 0xfe, 0xff };
	size_t size, i, v, taken = 0;
	char *p = bytes_of(rich, &size), was;

	for (i = 0; i < size; i++) {
		was = p[i];
		for (v = 0; v < sizeof values; v++) {
			p[i] = (char)values[v];
			if (spec_check(p, size) == 0) {
				taken++;
				see_all(p);
			}
		}
		p[i] = was;
	}
	T_CHECK(taken > 0);
	free(p);
}

/* Whole words as an attacker would choose them: offsets of other things in the image. */
T_CASE(every_word_may_be_hostile)
{
	size_t size, i, k;
	char *p = bytes_of(rich, &size);
	uint32_t was, v;

	for (i = 0; i + 4 <= size; i += 4) {
		memcpy(&was, p + i, 4);
		for (k = 0; k <= size; k += 8) {
			v = (uint32_t)k;
			memcpy(p + i, &v, 4);
			if (spec_check(p, size) == 0)
				see_all(p);
		}
		memcpy(p + i, &was, 4);
	}
	free(p);
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

T_CASE(several_words_may_be_hostile)
{
	uint64_t state = 0x9e3779b97f4a7c15u;
	size_t size;
	char *good = bytes_of(rich, &size), *p = malloc(size);
	int round, k;

	T_REQUIRE(p);
	for (round = 0; round < 100000; round++) {
		memcpy(p, good, size);
		for (k = 0; k < 1 + round % 3; k++) {
			size_t at = next_random(&state) % (size / 4) * 4;
			uint32_t v = (uint32_t)(next_random(&state) % (size + 16));

			memcpy(p + at, &v, 4);
		}
		if (spec_check(p, size) == 0)
			see_all(p);
	}
	free(p);
	free(good);
}

T_CASE(work_is_bounded)
{
	/* A list as long as the image in each of many children, one over the other, is refused. */
	size_t size, n = 0;
	char text[65536] = "supervisor: { children = ( ";
	struct spec_header *h;
	struct spec_child *c;
	char *p;

	for (n = 0; n < 500; n++)
		sprintf(text + strlen(text), "%s{ id = \"c%zu\"; exec = [ \"x\" ]; }", n ? "," : "", n);
	strcat(text, " ); };");
	p = bytes_of(text, &size);
	h = (void *)p;
	c = (void *)(p + ((struct spec_child *)(void *)(p + h->top))->first);
	for (;;) {
		c->worker.groups.off = 40;
		c->worker.groups.count = (uint32_t)(size - 40) / 4;
		if (c->next == 0)
			break;
		c = (void *)(p + c->next);
	}
	T_EQ_INT(spec_check(p, size), -1);
	free(p);
}

/* --- opening --- */

T_CASE(only_sealed_memory_is_opened)
{
	struct spec_image img;
	size_t size;
	char *p = bytes_of(rich, &size);
	int fd = memfd(), pipe_fd[2];

	T_REQUIRE(write(fd, p, size) == (ssize_t)size);
	T_EQ_INT(spec_open(&img, fd), -1);
	T_EQ_INT(errno, EBADMSG);
	T_CHECK(!img.h && img.fd == -1);
	T_REQUIRE(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
	T_EQ_INT(spec_open(&img, fd), -1);
	T_REQUIRE(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == 0);
	T_EQ_INT(spec_open(&img, fd), 0);
	T_EQ_INT(img.fd, fd);
	spec_close(&img);
	spec_close(&img);
	T_CHECK(fcntl(fd, F_GETFD) < 0);
	T_EQ_INT(spec_open(&img, -1), -1);
	T_REQUIRE(pipe(pipe_fd) == 0);
	T_EQ_INT(spec_open(&img, pipe_fd[0]), -1);
	close(pipe_fd[0]);
	close(pipe_fd[1]);
	fd = memfd();
	T_REQUIRE(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW) == 0);
	T_EQ_INT(spec_open(&img, fd), -1); /* empty */
	close(fd);
	free(p);
}

T_CASE(find)
{
	static const char *const there[] = { "a@0", "a@1", "s", "s/b", "s/t", "s/t/c", "e", "d" };
	static const char *const not_there[] = { "a", "s/", "/s", "s//b", "s/b/", "s/x", "a@0/x", "s/t/c/d", "S", "//", "@" };
	struct spec_image img;
	size_t i;

	open_image(&img, rich);
	T_CHECK(spec_find(&img, "/") == spec_top(&img) && spec_find(&img, "") == spec_top(&img));
	for (i = 0; i < sizeof there / sizeof there[0]; i++) {
		const struct spec_child *c = spec_find(&img, there[i]);

		T_REQUIRE(c);
		T_EQ_STR(spec_string(&img, c->path), there[i]);
	}
	for (i = 0; i < sizeof not_there / sizeof not_there[0]; i++)
		if (spec_find(&img, not_there[i]))
			T_FAIL("%s is found", not_there[i]);
	spec_close(&img);
}

T_CASE(beyond_the_end)
{
	struct spec_image img;
	const struct spec_child *c;

	open_image(&img, rich);
	c = spec_find(&img, "a@0");
	T_CHECK(!spec_list_str(&img, &c->worker.exec, 2) && !spec_list_str(&img, &c->worker.sockets, 0));
	T_EQ_INT(spec_list_num(&img, &c->worker.groups, 0), 0);
	T_CHECK(!spec_socket_at(&img, 2) && spec_socket_at(&img, 1));
	T_CHECK(!spec_string(&img, 0));
	spec_close(&img);
}

T_CASE(names)
{
	T_EQ_STR(spec_type_name(SPEC_DYNAMIC_SUPERVISOR), "dynamic_supervisor");
	T_EQ_STR(spec_strategy_name(SUP_REST_FOR_ONE), "rest_for_one");
	T_EQ_STR(spec_restart_name(SUP_TEMPORARY), "temporary");
	T_EQ_STR(spec_auto_shutdown_name(SUP_AUTO_ALL_SIGNIFICANT), "all_significant");
	T_EQ_STR(spec_type_name(3), "?");
	T_EQ_STR(spec_auto_shutdown_name(255), "?");
}

/* --- differences --- */

struct report {
	char text[8192];
	const struct spec_image *old_img, *new_img;
};

static void note(void *ctx, enum spec_change what, const char *path, const struct spec_child *old_c,
    const struct spec_child *new_c)
{
	struct report *r = ctx;
	size_t len = strlen(r->text);

	T_CHECK((what == SPEC_ADDED) == !old_c && (what == SPEC_REMOVED) == !new_c);
	if (old_c)
		T_EQ_STR(spec_string(r->old_img, old_c->path), path);
	if (new_c)
		T_EQ_STR(spec_string(r->new_img, new_c->path), path);
	snprintf(r->text + len, sizeof r->text - len, "%s%s ", what == SPEC_ADDED ? "+" : what == SPEC_REMOVED ? "-" : "*",
	    path);
}

#define SUP(children) "supervisor: { children = (" children "); };"
#define W(id) "{ id = \"" id "\"; exec = [ \"x\" ]; }"
#define W2(id, keys) "{ id = \"" id "\"; exec = [ \"x\" ]; " keys " }"
#define S(id, children) "{ id = \"" id "\"; type = \"supervisor\"; children = (" children "); }"

static void expect_diff(const char *old_text, const char *new_text, const char *want)
{
	struct spec_image old_img, new_img;
	struct report r = { .old_img = &old_img, .new_img = &new_img };

	open_image(&old_img, old_text);
	open_image(&new_img, new_text);
	spec_diff(&old_img, &new_img, note, &r);
	T_EQ_STR(r.text, want);
	spec_close(&old_img);
	spec_close(&new_img);
}

T_CASE(diff)
{
	expect_diff(rich, rich, "");
	expect_diff(SUP(W("a")), SUP(W("a") "," W("b")), "+b ");
	expect_diff(SUP(W("a") "," W("b") "," W("c")), SUP(""), "-c -b -a ");
	expect_diff(SUP(W("a") "," W("b") "," W("c") "," W("d") "," W("e")), SUP(W("c")), "-e -d -b -a ");
	expect_diff(SUP(W("a")), SUP(W2("a", "nice = 1;")), "*a ");
	expect_diff(SUP(W("a")), SUP(W2("a", "shutdown = 1;")), "*a ");
	expect_diff(SUP(W("a") "," W("b")), SUP(W("b") "," W("a")), "");
	expect_diff(SUP(S("s", W("a") "," W("b"))), SUP(S("s", W("b") "," W("c"))), "-s/a +s/c ");
	expect_diff(SUP(S("s", W("a"))), SUP(""), "-s ");
	expect_diff(SUP(""), SUP(S("s", S("t", W("a")))), "+s ");
	expect_diff(SUP(S("s", W("a"))), SUP(W("s")), "*s ");
	expect_diff(SUP(W("s")), SUP(S("s", W("a"))), "*s ");
	expect_diff(SUP(S("s", W("a"))), SUP("{ id = \"s\"; type = \"dynamic_supervisor\"; }"), "*s ");
	expect_diff("supervisor: { max_restarts = 4; children = (" W("a") "); };",
	    "supervisor: { max_restarts = 5; children = (" W2("a", "nice = 1;") "); };", "*/ *a ");
	expect_diff(SUP(S("s", W("a") "," S("t", W("b"))) "," W("z")),
	    SUP(S("s", S("t", W2("b", "nice = 1;") "," W("n"))) "," W("y")), "-z -s/a *s/t/b +s/t/n +y ");
}

/* Lets no allocation of any size succeed; false where a sanitizer would die of that. */
static bool limit_memory(void)
{
	const char *sanitizers = getenv("COP_SANITIZERS");
	struct rlimit rl = { 4096, 4096 };

	return (!sanitizers || strspn(sanitizers, " ") == strlen(sanitizers)) && setrlimit(RLIMIT_AS, &rl) == 0;
}

T_CASE(diff_of_many)
{
	static char text[2][400000];
	struct spec_image a, b;
	struct report r = { .old_img = &a, .new_img = &b };
	int i;

	for (i = 0; i < 2; i++)
		strcpy(text[i], "supervisor: { children = ( ");
	for (i = 0; i < 5000; i++) {
		size_t len = strlen(text[0]);

		len += (size_t)sprintf(text[0] + len, "%s{ id = \"c%d\"; exec = [ \"x\" ]; }", i ? "," : "", i);
		sprintf(text[1] + strlen(text[1]), "%s{ id = \"c%d\"; exec = [ \"x\" ]; }", i ? "," : "", 5001 - i);
	}
	strcat(text[0], " ); };");
	strcat(text[1], " ); };");
	open_image(&a, text[0]);
	open_image(&b, text[1]);
	spec_diff(&a, &b, note, &r);
	T_EQ_STR(r.text, "-c1 -c0 +c5001 +c5000 ");
	/* Without memory for an index the answer is the same. */
	if (limit_memory()) {
		r.text[0] = '\0';
		spec_diff(&a, &b, note, &r);
		T_EQ_STR(r.text, "-c1 -c0 +c5001 +c5000 ");
	}
	spec_close(&a);
	spec_close(&b);
}

T_MAIN(T_RUN(sound_images_are_taken), T_RUN(every_size_but_one_is_wrong), T_RUN(every_byte_may_be_hostile),
    T_RUN(every_word_may_be_hostile), T_RUN(several_words_may_be_hostile), T_RUN(work_is_bounded),
    T_RUN(only_sealed_memory_is_opened), T_RUN(find), T_RUN(beyond_the_end), T_RUN(names), T_RUN(diff),
    T_RUN(diff_of_many))
