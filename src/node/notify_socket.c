/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The socket of sd_notify: one per life of a child, in the abstract namespace under a random
 * name, so that nothing is left in the file system and no earlier life can speak for this one.
 * A name is no secret (/proc/net/unix lists them): who speaks is what the kernel says, and
 * must be of the child's group, or, if it is gone already, of the child's user. Datagrams are
 * hostile input. Runs in supervisor processes; allocates nothing.
 */
#include "node/service.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fds.h"
#include "node/service_private.h"

#define DATAGRAM_MAX 4096   /* longer ones are ignored, as elsewhere */
#define DATAGRAMS_A_TURN 16
#define FDS_MAX 253         /* the kernel's limit for one message */
#define NAME_TRIES 8

/* --- the socket --- */

static void draw_name(struct service *s)
{
	uint64_t r[2];

	if (getrandom(r, sizeof r, GRND_NONBLOCK) == (ssize_t)sizeof r)
		snprintf(s->notify_name, sizeof s->notify_name, "@coppice/%016llx%016llx",
		    (unsigned long long)r[0], (unsigned long long)r[1]);
	else
		snprintf(s->notify_name, sizeof s->notify_name, "@coppice/%s", s->group.invocation);
}

static int bind_random(struct service *s, int fd)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	size_t len;
	int tries;

	for (tries = 0; tries < NAME_TRIES; tries++) {
		draw_name(s);
		len = strlen(s->notify_name);
		memcpy(a.sun_path + 1, s->notify_name + 1, len - 1);
		if (bind(fd, (struct sockaddr *)&a, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) == 0)
			return 0;
		if (errno != EADDRINUSE)
			return -1;
	}
	return -1;
}

static void notify_ready(struct loop_source *src, uint32_t events)
{
	(void)events;
	notify_look(src->ctx, DATAGRAMS_A_TURN);
}

int notify_open(struct service *s)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1, err;

	if (fd < 0)
		return -1;
	fds_lift(&fd);
	if (setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0 && bind_random(s, fd) == 0 &&
	    loop_attach(s->loop, &s->notify, fd, EPOLLIN, notify_ready, s) == 0)
		return 0;
	err = errno;
	close(fd);
	errno = err;
	return -1;
}

void notify_close(struct service *s)
{
	service_close_source(s, &s->notify);
}

/* --- datagrams --- */

static void close_passed(const struct cmsghdr *h)
{
	size_t i, n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	int fd;

	for (i = 0; i < n; i++) {
		memcpy(&fd, CMSG_DATA(h) + i * sizeof fd, sizeof fd);
		close(fd); /* also the answer to BARRIER=1 */
	}
}

/* Finds who sent it, and closes descriptors that came along. False: the kernel did not say. */
static bool take_control(struct msghdr *m, struct ucred *who_r)
{
	struct cmsghdr *h;
	bool known = false;

	for (h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
		if (h->cmsg_level != SOL_SOCKET)
			continue;
		if (h->cmsg_type == SCM_RIGHTS)
			close_passed(h);
		if (h->cmsg_type == SCM_CREDENTIALS && h->cmsg_len == CMSG_LEN(sizeof *who_r)) {
			memcpy(who_r, CMSG_DATA(h), sizeof *who_r);
			known = true;
		}
	}
	return known;
}

static bool is_gone(pid_t pid)
{
	return kill(pid, 0) < 0 && errno == ESRCH;
}

static bool may_speak(const struct service *s, const struct ucred *who)
{
	if (who->pid <= 0 || (who->uid != s->uid && who->uid != 0 && who->uid != geteuid()))
		return false;
	if (who->pid == s->last_pid || group_contains(&s->group, who->pid))
		return true;
	return who->uid == s->uid && is_gone(who->pid);
}

/* Takes one datagram; false when there is none. */
static bool take_one(struct service *s)
{
	union {
		char buf[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(sizeof(int) * FDS_MAX)];
		struct cmsghdr align;
	} control;
	static char buf[DATAGRAM_MAX]; /* too big for the stack */
	struct iovec iov = { .iov_base = buf, .iov_len = sizeof buf };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf,
		.msg_controllen = sizeof control.buf };
	ssize_t n = recvmsg(s->notify.fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct ucred who;

	if (n < 0)
		return errno == EINTR;
	if (take_control(&m, &who) && n > 0 && !(m.msg_flags & MSG_TRUNC) && may_speak(s, &who))
		notify_parse(s, buf, (size_t)n);
	return true;
}

void notify_look(struct service *s, int max)
{
	while (max-- > 0 && s->notify.fd >= 0 && take_one(s))
		;
	service_check_ready(s);
}
