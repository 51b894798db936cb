/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Which files make up a configuration: @include, patterns, links, loops, and files and directories
 * that others could have written.
 */
#include "config_rig.h"

/* --- includes --- */

T_CASE(includes_name_their_own_lines)
{
	struct spec_image img;
	char *err;

	enter_dir();
	put_text("conf/main.conf", "# one\nsupervisor: {\n  @include \"flags.inc\" # here\n  strategy = \"x\";\n"
	    "  children = (\n@include \"sub/kids.inc\"\n  );\n};\n");
	T_REQUIRE(mkdir("conf/sub", 0755) == 0);
	put_text("conf/flags.inc", "max_restarts = 1;\nmax_seconds = 0;");
	put_text("conf/sub/kids.inc", "{ id = \"a\"; exec = [ \"x\" ]; },\n@include \"more.inc\"\n");
	put_text("conf/sub/more.inc", "{ id = \"a\";\n exec = [ ]; }\n");
	T_EQ_INT(load("conf/main.conf", &img, &err), -1);
	T_EQ_STR(err, "conf/main.conf:4: `strategy` is \"x\"; it must be \"one_for_one\", \"one_for_all\" or "
	    "\"rest_for_one\"\n"
	    "conf/flags.inc:2: `max_seconds` is 0; it must be a whole number from 1 to 2147483647\n"
	    "conf/sub/more.inc:1: duplicate id \"a\"; the first is in conf/sub/kids.inc:1\n"
	    "conf/sub/more.inc:2: `exec` is empty; its first element is the program\n");
	free(err);
	put_text("conf/sub/more.inc", "{ id = \"b\";\n exec = \"\n");
	T_EQ_INT(load("conf/main.conf", &img, &err), -1);
	T_HAS(err, "conf/sub/more.inc:2: syntax error: the string that begins here is never closed");
	free(err);
	leave_dir();
}

T_CASE(included_from_the_first_line)
{
	struct spec_image img;

	enter_dir();
	put_text("a.inc", "node = \"z\";");
	must_load("@include \"a.inc\"\nsupervisor: { children = (\n{ id = \"a\"; exec = [ \"x\" ]; } ); };", &img);
	T_EQ_STR(spec_string(&img, img.h->node), "z");
	T_EQ_INT(spec_find(&img, "a")->line, 3);
	spec_close(&img);
	leave_dir();
}

static void expect_include(const char *name, const char *why)
{
	char text[PATH_MAX + 64], *err;

	snprintf(text, sizeof text, "@include \"%s\"\nsupervisor: { };\n", name);
	put_text("conf/x.conf", text);
	T_REQUIRE(chdir("conf") == 0);
	err = errors_of(text);
	T_HAS(err, "x.conf:1: unable to include");
	T_HAS(err, why);
	free(err);
	snprintf(text, sizeof text, "\ninclude = [ \"%s\" ];\nsupervisor: { };\n", name);
	err = errors_of(text);
	T_HAS(err, "x.conf:2: unable to include");
	T_HAS(err, why);
	free(err);
	T_REQUIRE(chdir("..") == 0);
}

T_CASE(includes_stay_inside)
{
	char name[PATH_MAX];
	struct spec_image img;

	enter_dir();
	put_text("secret", "");
	put_text("conf/inside", "");
	T_REQUIRE(mkdir("confused", 0755) == 0);
	put_text("confused/x", "");
	expect_include("../secret", "outside");
	expect_include("../confused/x", "outside");
	snprintf(name, sizeof name, "%s/secret", dir);
	expect_include(name, "outside");
	T_REQUIRE(symlink("../secret", "conf/link") == 0 && symlink("..", "conf/up") == 0);
	expect_include("link", "outside");
	expect_include("up/secret", "outside");
	T_REQUIRE(mkfifo("conf/fifo", 0600) == 0);
	expect_include("fifo", "a fifo");
	T_REQUIRE(symlink("/dev/zero", "conf/zero") == 0);
	expect_include("zero", "a device");
	expect_include("/dev/zero", "a device");
	expect_include(".", "a directory");
	T_REQUIRE(symlink("loop", "conf/loop") == 0);
	expect_include("loop", "Too many levels");
	T_REQUIRE(chdir("conf") == 0);
	T_REQUIRE(symlink("inside", "fine") == 0);
	snprintf(name, sizeof name, "@include \"fine\"\n@include \"../conf/inside\"\n@include \"%s/conf/inside\"\n"
	    "supervisor: { };", dir);
	must_load(name, &img);
	spec_close(&img);
	leave_dir();
}

T_CASE(includes_end)
{
	char name[32], text[64], *err;
	int i;

	enter_dir();
	put_text("a.inc", "@include \"b.inc\"\n");
	put_text("b.inc", "\n@include \"a.inc\"\n");
	err = errors_of("@include \"a.inc\"\nsupervisor: { };");
	T_EQ_STR(err, "b.inc:2: unable to include a.inc: refused: it includes itself\n");
	free(err);
	for (i = 0; i < 20; i++) {
		snprintf(name, sizeof name, "d%d.inc", i);
		snprintf(text, sizeof text, "@include \"d%d.inc\"\n", i + 1);
		put_text(name, text);
	}
	err = errors_of("@include \"d0.inc\"\nsupervisor: { };");
	T_HAS(err, "deeper than 16");
	free(err);
	leave_dir();
}

T_CASE(parts)
{
	struct spec_image img;
	const struct spec_child *c;
	char *err;

	enter_dir();
	T_REQUIRE(mkdir("conf.d", 0755) == 0);
	put_text("conf.d/20-b.conf", "children = ( { id = \"b\"; exec = [ \"x\" ]; } );");
	put_text("conf.d/10-c.conf", "children = (\n{ id = \"c\"; exec = [ \"x\" ]; } );");
	put_text("conf.d/.hidden.conf", "rubbish");
	put_text("conf.d/other.txt", "rubbish");
	put_text("conf.d/30-empty.conf", "");
	must_load("include = [ \"conf.d/*.conf\", \"conf.d/2*\", \"no.d/*\" ];\n"
	    "supervisor: { children = ( { id = \"a\"; exec = [ \"x\" ]; } ); };", &img);
	c = spec_first_child(&img, spec_top(&img));
	T_EQ_STR(spec_string(&img, c->id), "a");
	c = spec_next_child(&img, c);
	T_EQ_STR(spec_string(&img, c->id), "c");
	T_EQ_STR(spec_string(&img, c->file), "conf.d/10-c.conf");
	T_EQ_INT(c->line, 2);
	c = spec_next_child(&img, c);
	T_EQ_STR(spec_string(&img, c->id), "b");
	T_CHECK(!spec_next_child(&img, c));
	spec_close(&img);
	put_text("conf.d/20-b.conf", "\nchildren = ( { id = \"a\"; exec = [ \"x\" ]; },\n { id = \"c\"; exec = [ ]; } );\n"
	    "strategy = \"one_for_all\";");
	put_text("conf.d/40.conf", "children = ");
	err = errors_of("include = [ \"conf.d/*.conf\" ];\n"
	    "supervisor: { children = ( { id = \"a\"; exec = [ \"x\" ]; } ); };");
	T_EQ_STR(err, "conf.d/20-b.conf:2: duplicate id \"a\"; the first is in x.conf:2\n"
	    "conf.d/20-b.conf:3: duplicate id \"c\"; the first is in conf.d/10-c.conf:2\n"
	    "conf.d/20-b.conf:3: `exec` is empty; its first element is the program\n"
	    "conf.d/20-b.conf:4: `strategy` is not a key of an included file; it belongs to the top supervisor "
	    "or a supervisor\n"
	    "conf.d/40.conf:1: syntax error at `children =`\n");
	free(err);
	leave_dir();
}

/* --- whose files --- */

static void expect_safe(const char *what, mode_t file, mode_t parent, uid_t owner, gid_t group, bool good)
{
	struct spec_image img;
	char *err;
	int r;

	T_REQUIRE(chmod("conf/x.conf", file) == 0 && chmod("conf", parent) == 0);
	if (geteuid() == 0)
		T_REQUIRE(chown("conf/x.conf", owner, group) == 0);
	r = load("conf/x.conf", &img, &err);
	if ((r == 0) != good)
		T_FAIL("%s is %s: %s", what, r == 0 ? "taken" : "refused", err);
	if (r == 0)
		spec_close(&img);
	else
		T_HAS(err, "conf/x.conf: refused: ");
	free(err);
}

T_CASE(files_that_others_can_write)
{
	bool root = geteuid() == 0;
	uid_t me = geteuid();
	gid_t mine = getegid();

	enter_dir();
	put_text("conf/x.conf", "supervisor: { };");
	expect_safe("0600", 0600, 0755, me, mine, true);
	expect_safe("0644", 0644, 0755, me, mine, true);
	expect_safe("0664 of my group", 0664, 0755, me, mine, true);
	expect_safe("0666", 0666, 0755, me, mine, false);
	expect_safe("0602", 0602, 0755, me, mine, false);
	expect_safe("directory 0777", 0644, 0777, me, mine, false);
	expect_safe("directory 01777", 0644, 01777, me, mine, true);
	expect_safe("directory 0775 of my group", 0644, 0775, me, mine, true);
	if (root) {
		expect_safe("0664 of another group", 0664, 0755, me, 1, false);
		expect_safe("0644 of another group", 0644, 0755, me, 1, true);
		expect_safe("another owner", 0600, 0755, 1, mine, false);
		T_REQUIRE(chown("conf", 1, 0) == 0);
		expect_safe("directory of another owner", 0644, 0755, me, mine, false);
		expect_safe("sticky directory of another owner", 0644, 01777, me, mine, false);
		T_REQUIRE(chown("conf", 0, 1) == 0);
		expect_safe("directory 0775 of another group", 0644, 0775, me, mine, false);
		expect_safe("directory 0755 of another group", 0644, 0755, me, mine, true);
	}
	leave_dir();
}

T_CASE(links_to_unsafe_places)
{
	struct spec_image img;
	char *err;

	enter_dir();
	T_REQUIRE(mkdir("open", 0755) == 0 && chmod("open", 0777) == 0);
	put_text("open/real.conf", "supervisor: { };");
	T_REQUIRE(symlink("../open/real.conf", "conf/l.conf") == 0);
	T_EQ_INT(load("conf/l.conf", &img, &err), -1);
	T_HAS(err, "conf/l.conf: refused: ");
	free(err);
	T_REQUIRE(chmod("open", 0755) == 0);
	T_EQ_INT(load("conf/l.conf", &img, &err), 0);
	spec_close(&img);
	free(err);
	/* The way to the link matters, too. */
	T_REQUIRE(chmod("conf", 0777) == 0);
	T_EQ_INT(load("conf/l.conf", &img, &err), -1);
	free(err);
	if (geteuid() == 0) {
		T_REQUIRE(chmod("conf", 01777) == 0 && lchown("conf/l.conf", 1, 1) == 0);
		T_EQ_INT(load("conf/l.conf", &img, &err), -1);
		T_HAS(err, "belongs to user 1");
		free(err);
	}
	leave_dir();
}

T_CASE(files_that_cannot_be_read)
{
	struct spec_image img;
	char *err;

	enter_dir();
	T_EQ_INT(load("none.conf", &img, &err), -1);
	T_EQ_STR(err, "none.conf: unable to open: No such file or directory\n");
	free(err);
	T_EQ_INT(load("conf", &img, &err), -1);
	T_EQ_STR(err, "conf: refused: it is a directory, not a file\n");
	free(err);
	T_EQ_INT(load("conf/../conf/./none", &img, &err), -1);
	free(err);
	T_EQ_INT(load("", &img, &err), -1);
	free(err);
	put_text("odd name.conf", "supervisor: { };");
	T_EQ_INT(load("odd name.conf", &img, &err), -1);
	T_EQ_STR(err, "odd name.conf:1: the file's name cannot be the node's name (\"odd name\"); add node = \"NAME\"\n");
	free(err);
	put_text("b\nc\x1b.conf", "supervisor: { ");
	T_EQ_INT(load("b\nc\x1b.conf", &img, &err), -1);
	T_HAS(err, "b\\x0ac\\x1b.conf:1: ");
	free(err);
	leave_dir();
}

T_MAIN(T_RUN(includes_name_their_own_lines), T_RUN(included_from_the_first_line),
    T_RUN(includes_stay_inside), T_RUN(includes_end), T_RUN(parts),
    T_RUN(files_that_others_can_write), T_RUN(links_to_unsafe_places),
    T_RUN(files_that_cannot_be_read))
