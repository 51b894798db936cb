/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The book's sender: notifies people by mail, through the mail server on port $SMTP_PORT of this machine.
 *
 *     sender async ADDRESS...          a task for each address, all at once, then awaited one by one
 *     sender async_stream ADDRESS...   as many tasks at a time as there are processors
 *     sender async_stream_nolink ADDRESS...   the same under a task supervisor
 *
 * To konnichiwa@world.com nothing can be sent: its task crashes. Tasks that are linked with us take us along, so
 * that nobody hears of the others; under the supervisor the crash is one result among others.
 */
#include <coppice/coppice.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct list {
	char **address;
	int n;
};

static void exit_because(const char *what)
{
	struct cop_exit reason = cop_exit_make_text(COP_EXIT_OTHER, 0, what);

	cop_exit(&reason);
}

/* --- one message --- */

/* Says something to a mail server, and exits unless its answer begins with this digit. */
__attribute__((format(printf, 3, 4))) static void say(FILE *server, char want, const char *format, ...)
{
	char line[512];
	va_list ap;

	va_start(ap, format);
	vdprintf(fileno(server), format, ap);
	va_end(ap);
	if (!fgets(line, sizeof line, server) || line[0] != want)
		exit_because("refused");
}

static FILE *server_open(void)
{
	const char *port = getenv("SMTP_PORT");
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)(port ? atoi(port) : 25)),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
		exit_because("no_server");
	return fdopen(fd, "r");
}

static void send_email(const char *address)
{
	FILE *server;

	if (strcmp(address, "konnichiwa@world.com") == 0)
		abort(); /* oops */
	server = server_open();
	say(server, '2', "%s", ""); /* it speaks first */
	say(server, '2', "HELO localhost\r\n");
	say(server, '2', "MAIL FROM:<team@example.com>\r\n");
	say(server, '2', "RCPT TO:<%s>\r\n", address);
	say(server, '3', "DATA\r\n");
	say(server, '2', "From: team@example.com\r\nTo: %s\r\nSubject: Welcome, %s\r\n\r\nHello!\r\n.\r\n", address, address);
	say(server, '2', "QUIT\r\n");
	fclose(server);
}

/* --- notify_all, in three ways --- */

static struct cop_result notify(const void *address, size_t size)
{
	(void)size;
	send_email(address);
	return cop_return("email_sent", sizeof "email_sent");
}

static struct cop_result notify_element(void *ctx, const void *address, size_t len)
{
	(void)ctx;
	return notify(address, len);
}

static void notify_all_async(const struct list *list)
{
	struct cop_task *tasks = calloc((size_t)list->n, sizeof *tasks);
	struct cop_response r;
	int i;

	for (i = 0; tasks && i < list->n; i++)
		if (cop_task_async(notify, list->address[i], strlen(list->address[i]) + 1, &tasks[i]) < 0)
			exit_because("no_process");
	for (i = 0; tasks && i < list->n; i++) {
		cop_task_await_or_exit(&tasks[i], COP_TASK_MS, &r);
		printf("%s: %s\n", list->address[i], (const char *)r.msg.data);
		cop_response_done(&r);
	}
	free(tasks);
}

static int next_address(void *ctx, const void **item_r, size_t *len_r)
{
	struct list *left = ctx;

	if (left->n == 0)
		return 0;
	left->n--;
	*item_r = *left->address++;
	*len_r = strlen(*item_r) + 1;
	return 1;
}

static void notify_all_stream(const struct list *list, const struct cop_dest *supervisor)
{
	struct list left = *list;
	struct cop_stream_input input = { .next = next_address, .ctx = &left };
	struct cop_stream_options options = { .supervisor = supervisor, .nolink = supervisor != NULL };
	struct cop_stream *stream = cop_stream_open(&input, notify_element, &options);
	struct cop_stream_result r;
	char why[COP_EXIT_FORMAT_MAX];
	int i;

	for (i = 0; stream && cop_stream_next_or_exit(stream, &r); i++)
		printf("%s: %s\n", list->address[i],
		    r.how > 0 ? (const char *)r.data : cop_exit_format(&r.reason, why, sizeof why));
	if (stream)
		cop_stream_close(stream);
}

static void run(void *arg)
{
	char **argv = arg;
	struct list list = { .address = argv + 2 };
	struct cop_supervisor tasks = cop_task_supervisor("email_tasks", 0);
	struct cop_dest sup = cop_named("email_tasks");
	struct cop_started s;

	setvbuf(stdout, NULL, _IOLBF, 0);
	while (list.address[list.n])
		list.n++;
	if (strcmp(argv[1], "async") == 0)
		notify_all_async(&list);
	else if (strcmp(argv[1], "async_stream") == 0)
		notify_all_stream(&list, NULL);
	else if (strcmp(argv[1], "async_stream_nolink") == 0 && cop_supervisor_start_link(&tasks, &s) == COP_STARTED)
		notify_all_stream(&list, &sup);
	else
		exit_because("no_such_way");
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "usage: sender async|async_stream|async_stream_nolink ADDRESS...\n");
		return 2;
	}
	return cop_run(NULL, run, argv);
}
