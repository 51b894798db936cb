/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * coppice shutdown: asks, then waits for root's end. Root is held by a pidfd taken before the
 * request goes out, so that neither a broken connection nor a reused pid can be mistaken for it;
 * where there is no pidfd (another pid namespace) the socket tells: root keeps it to its end. Runs
 * in the command's process.
 */
#include "cli/cli.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>

#include "base/clock.h"
#include "base/diag.h"
#include "base/fds.h"
#include "cli/cli_call.h"
#include "cli/cli_find.h"
#include "cli/cli_out.h"
#include "cli/cli_pidfd.h"

#define LOOK_EVERY_MS 50 /* without a pidfd */

/* At most max_ms, bounded by the deadline; -1: for ever. */
static int wait_ms(const struct client *c, int max_ms)
{
	int64_t left;

	if (c->deadline_ms == CLIENT_NO_DEADLINE)
		return max_ms;
	left = c->deadline_ms - clock_mono_ms();
	if (left < 0)
		left = 0;
	if (max_ms >= 0 && left > max_ms)
		return max_ms;
	return left > INT_MAX ? INT_MAX : (int)left;
}

static int wait_pidfd(const struct client *c, int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	int n;

	do {
		n = poll(&p, 1, wait_ms(c, -1));
	} while (n < 0 && errno == EINTR);
	if (n == 0)
		errno = ETIMEDOUT;
	return n > 0 ? 0 : -1;
}

/* Looks again and again whether somebody still listens. */
static int wait_socket(const struct client *c)
{
	for (;;) {
		struct client probe;
		bool gone;

		client_init(&probe, c->deadline_ms);
		gone = client_connect(&probe, c->path, false) < 0 && (errno == ECONNREFUSED || errno == ENOENT);
		client_fini(&probe);
		if (gone)
			return 0;
		if (wait_ms(c, LOOK_EVERY_MS) == 0) {
			errno = ETIMEDOUT;
			return -1;
		}
		poll(NULL, 0, wait_ms(c, LOOK_EVERY_MS));
	}
}

/* Sends the order and hears what the node says to it. 0, or an exit status after saying why. */
static int order(const struct cli_args *a, struct client *c)
{
	char message[CALL_MESSAGE_MAX];
	struct request r;
	struct wire_in body;
	int result, kind, status;
	bool taken = false; /* the node has named itself: root has the order */

	request_init(&r, PROTO_SHUTDOWN, a->no_wait ? PROTO_F_NO_WAIT : 0);
	result = client_send(c, &r);
	request_fini(&r);
	if (result < 0 && errno != EPIPE && errno != ECONNRESET)
		return call_say_errno(a, errno);
	do {
		kind = client_next(c, &body);
		taken |= kind == PROTO_R_NODE;
	} while (kind > 0 && kind != PROTO_END);
	if (kind < 0)
		return call_say_errno(a, errno);
	if (kind == 0) /* then the control process has gone with the node */
		return taken ? CLI_OK : call_say_errno(a, EPIPE);
	status = wire_get_u8(&body);
	client_get_text(&body, message, sizeof message);
	if (status != 0)
		diag_error("%s", message[0] != '\0' ? message : "the node refused without a reason");
	return status;
}

static void put_done(const struct cli_args *a, pid_t pid)
{
	if (a->json) {
		fprintf(stdout, "{\"ended\":%s", a->no_wait ? "false" : "true");
		cli_json_int(stdout, "pid", pid > 0, pid);
		fputs("}\n", stdout);
	}
}

static int shut_down(const struct cli_args *a, struct client *c)
{
	int pidfd = cli_pidfd_open(c->peer.pid), status, result = 0;

	status = order(a, c);
	if (status == 0 && !a->no_wait)
		result = pidfd >= 0 ? wait_pidfd(c, pidfd) : wait_socket(c);
	if (result < 0)
		status = call_say_errno(a, errno);
	fds_close(&pidfd);
	if (status == 0)
		put_done(a, c->peer.pid);
	return status;
}

int cli_shutdown(const struct cli_args *a)
{
	struct client c;
	int status;

	client_init(&c, call_deadline(a, -1));
	status = find_node(&c, a);
	if (status == 0)
		status = shut_down(a, &c);
	client_fini(&c);
	return status;
}
