/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* sd_notify: what a child may say, who may speak for it, and hostile datagrams. */
#include "service_rig.h"

#include <sys/un.h>

#include "node/service_private.h"

static int fd_count(void)
{
	return t_count_fds();
}

/* A service that waits for READY=1, as a worker that does what argv says. */
static struct rig_service *starting(bool cgroup, const char *const *argv)
{
	rig_open(cgroup);
	rig_spec(0, argv)->worker.ready = SPEC_READY_NOTIFY;
	rig_make(0);
	rig_start(&R.svc[0]);
	return &R.svc[0];
}

/* A socket that sends to the service's. */
static int speaker(void)
{
	const char *name = R.svc[0].s->notify_name;
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	memcpy(a.sun_path + 1, name + 1, strlen(name) - 1);
	T_REQUIRE(connect(fd, (struct sockaddr *)&a,
	    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))) == 0);
	return fd;
}

/* Everything that waits is read. */
static void read_all(void)
{
	int i;

	for (i = 0; i < 5; i++)
		loop_turn(&R.loop, 10);
}

/* Parses one message as if the child had sent it. */
static void say(const char *msg, size_t len)
{
	notify_parse(R.svc[0].s, msg, len);
}

T_CASE(parsing)
{
	struct service *s;
	char big[5000];

	rig_open(false);
	rig_spec(0, RIG_WORKER("--hold"));
	s = rig_make(0)->s;
	s->mode = SPEC_READY_NOTIFY;
	say("", 0);
	say("\n\n\n", 3);
	say("READY=0", 7);
	say("READY=11", 8);
	say("READY", 5);
	say("XREADY=1", 8);
	say("READY=1\0", 8);
	T_CHECK(!s->probed);
	say("FOO=BAR\nREADY=1", 15);
	T_CHECK(s->probed);
	say("STATUS=a\x1b[31m\xff" "b\0c", 17);
	T_EQ_STR(s->status_text, "a\\x1b[31m\\xffb\\x00c");
	memset(big, 'y', sizeof big);
	memcpy(big, "STATUS=", 7);
	say(big, sizeof big);
	T_CHECK(strlen(s->status_text) < sizeof s->status_text);
	say("STATUS=", 7);
	T_EQ_STR(s->status_text, "");
	say("WATCHDOG_USEC=", 14);
	say("WATCHDOG_USEC=-5", 16);
	say("WATCHDOG_USEC=5x", 16);
	say("WATCHDOG_USEC=99999999999999999999999", 37);
	T_EQ_INT(s->watchdog_ms, 0);
	say("WATCHDOG_USEC=1", 15);
	T_EQ_INT(s->watchdog_ms, 1);
	say("WATCHDOG_USEC=9999999999999999999", 33);
	T_EQ_INT(s->watchdog_ms, INT32_MAX);
	say("WATCHDOG_USEC=0", 15);
	T_EQ_INT(s->watchdog_ms, 0);
	say("MAINPID=1", 9);
	say("WATCHDOG=trigger", 16); /* nothing runs: nothing to do */
	say("EXTEND_TIMEOUT_USEC=9999999999999999999", 39);
	T_EQ_INT(service_pid(s), 0);
	rig_close();
}

/* Random bytes, cut anywhere; a sanitizer sees what is read too far. */
T_CASE(parsing_noise)
{
	static const char *const words[] = { "READY=", "STATUS=", "WATCHDOG=", "WATCHDOG_USEC=", "\n", "=", "1",
		"EXTEND_TIMEOUT_USEC=", "trigger", "\0", "\xff\xfe", "99999999999" };
	unsigned seed = 11;
	int i;

	rig_open(false);
	rig_spec(0, RIG_WORKER("--hold"));
	rig_make(0);
	for (i = 0; i < 20000; i++) {
		char *msg = malloc(64);
		size_t len = 0;

		while (len < 40 && (seed = seed * 1103515245 + 12345) >> 28 != 0) {
			const char *w = words[(seed >> 16) % (sizeof words / sizeof words[0])];
			size_t n = *w ? strlen(w) : 1;

			memcpy(msg + len, w, n);
			len += n;
		}
		msg = realloc(msg, len ? len : 1);
		say(msg, len);
		free(msg);
	}
	rig_close();
}

/* Its own datagrams that a service must survive, then the one that counts. */
T_CASE(hostile_datagrams)
{
	struct rig_service *r;
	int before;

	r = starting(true, RIG_WORKER("--notify", "", "--notify-size", "65536", "--notify-size", "4097",
	    "--notify-garbage", "2000", "--notify-size", "1", "--notify", "READY=1", "--hold"));
	before = fd_count();
	RIG_UNTIL(strstr(r->log, "ready") || r->over);
	T_EQ_STR(r->log, "created ready");
	T_CHECK(fd_count() < before); /* the start's own are closed */
	rig_close();
}

/* Descriptors that come along are closed. */
T_CASE(passed_descriptors)
{
	struct rig_service *r = starting(true, RIG_WORKER("--notify-fds", "--notify-fds", "--hold"));
	int fds;

	RIG_UNTIL(strstr(r->log, "ready"));
	fds = fd_count();
	read_all();
	T_EQ_INT(fd_count(), fds);
	rig_close();
}

/* A helper that is gone before we look (systemd-notify) speaks for its service. */
T_CASE(gone_helper)
{
	int mode;

	for (mode = 0; mode < 2; mode++) {
		struct rig_service *r = starting(mode == 0, RIG_WORKER("--notify-by-child", "READY=1", "--hold"));

		worker_sleep(200); /* the helper is dead and reaped when we read */
		RIG_UNTIL(strstr(r->log, "ready"));
		rig_close();
	}
}

/* H9: somebody else of the same user, whom we can see, is not believed. */
T_CASE(strangers)
{
	int mode;

	for (mode = 0; mode < 2; mode++) {
		struct rig_service *r = starting(mode == 0, RIG_WORKER("--hold"));
		int fd = speaker();

		T_CHECK(send(fd, "READY=1\nSTATUS=forged", 21, 0) == 21); /* from this process */
		read_all();
		T_EQ_STR(r->log, "created");
		T_EQ_STR(service_status_text(r->s), "");
		close(fd);
		rig_close();
	}
}

/* H9: a sibling, as another user or the same. */
static void sibling_case(bool cgroup, bool other_user)
{
	struct rig_service *r = starting(cgroup, RIG_WORKER("--hold"));
	struct spec_child *c;
	char script[400];

	snprintf(script, sizeof script, "import socket,os,sys\ns=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM)\n"
	    "s.sendto(b'READY=1','\\0%s')\nopen('%s','w').close()\nimport time\ntime.sleep(1000)",
	    r->s->notify_name + 1, rig_path("sent"));
	chmod(R.dir, 0777);
	c = rig_spec(1, (const char *const[]){ "/usr/bin/python3", "-c", script, NULL });
	if (other_user)
		c->worker.uid = c->worker.gid = 65534;
	rig_make(1);
	rig_start(&R.svc[1]);
	RIG_UNTIL(access(rig_path("sent"), F_OK) == 0 || R.svc[1].over);
	T_CHECK(!R.svc[1].over);
	read_all();
	T_EQ_STR(r->log, "created");
	service_kill(R.svc[1].s);
	RIG_UNTIL(R.svc[1].over);
	T_EQ_STR(r->log, "created");
	unlink(rig_path("sent"));
	rig_close();
}

T_CASE(siblings)
{
	if (geteuid() != 0 || access("/usr/bin/python3", X_OK) < 0) {
		printf("# only as root, with python3\n");
		return;
	}
	sibling_case(true, true);
	sibling_case(true, false);
	sibling_case(false, true);
	sibling_case(false, false);
}

/* A flood takes a bounded part of each turn; the timers of others are served. */
static int ticks;

static void tick(struct loop_timer *t)
{
	ticks++;
	loop_timer_set(&R.loop, t, clock_mono_ms() + 1, tick, NULL);
}

T_CASE(flood)
{
	struct rig_service *r = starting(true, RIG_WORKER("--notify-garbage", "1000000000"));
	struct loop_timer t = { .armed = false };
	int64_t end = clock_mono_ms() + 300;
	struct rig_service *other;

	rig_spec(1, RIG_WORKER("--hold"));
	other = rig_make(1);
	tick(&t);
	rig_start(other);
	RIG_UNTIL(strstr(other->log, "ready"));
	while (clock_mono_ms() < end)
		loop_turn(&R.loop, 20);
	T_CHECK(ticks >= 20);
	loop_timer_cancel(&R.loop, &t);
	service_kill(r->s);
	RIG_UNTIL(r->over);
	rig_close();
}

/* Each life has a name of its own, and the old one is gone. */
T_CASE(names)
{
	struct rig_service *r = starting(true, RIG_WORKER("--notify", "READY=1", "--hold"));
	char first[NOTIFY_NAME_MAX];
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd;

	RIG_UNTIL(strstr(r->log, "ready"));
	strcpy(first, r->s->notify_name);
	T_EQ_INT(strlen(first), strlen("@coppice/") + 32);
	service_kill(r->s);
	RIG_UNTIL(r->over);
	r->log[0] = '\0';
	rig_start(r);
	RIG_UNTIL(strstr(r->log, "ready"));
	T_CHECK(strcmp(first, r->s->notify_name) != 0);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	memcpy(a.sun_path + 1, first + 1, strlen(first) - 1);
	T_EQ_INT(connect(fd, (struct sockaddr *)&a,
	    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(first))), -1);
	T_EQ_INT(errno, ECONNREFUSED);
	close(fd);
	rig_close();
}

T_MAIN(T_RUN(parsing), T_RUN(parsing_noise), T_RUN(hostile_datagrams), T_RUN(passed_descriptors), T_RUN(gone_helper),
    T_RUN(strangers), T_RUN(siblings), T_RUN(flood), T_RUN(names))
