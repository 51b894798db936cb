/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * An executable as a child (service.h): making one, the orders it takes, and what can be seen of
 * it. Runs in supervisor processes. A service owns its cgroup, its log pipe's write end, and
 * during a life of the child a notify socket; one block of memory, allocated in
 * service_create().
 */
#include "node/service.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/diag.h"
#include "base/fds.h"
#include "base/text.h"
#include "node/service_private.h"

/* --- making --- */

/* The cgroup's name: an id may look like one of the kernel's own files. */
static const char *group_name(const struct service *s, char buf[TEXT_ID_MAX + 8])
{
	snprintf(buf, TEXT_ID_MAX + 8, "w-%s", spec_string(s->img, s->spec->id));
	return buf;
}

struct service *service_create(struct node *n, struct loop *l, const struct group_base *cg,
    const struct spec_image *img, const struct spec_child *spec, const struct service_ops *ops, void *ctx)
{
	struct service *s = calloc(1, sizeof *s);
	char name[TEXT_ID_MAX + 8];
	int i;

	if (!s)
		return NULL;
	s->node = n;
	s->loop = l;
	s->cg = *cg;
	s->img = img;
	s->spec = spec;
	s->ops = ops;
	s->ctx = ctx;
	s->log_w = s->log_r = s->log_ready_w = s->bridge_order = -1;
	s->status.fd = s->ready.fd = s->notify.fd = s->events.fd = s->log_ready.fd = -1;
	for (i = 0; i < SERVICE_PROBES; i++)
		s->probe[i].fd = -1;
	group_open(&s->group, cg, group_name(s, name));
	return s;
}

void service_destroy(struct service **sp)
{
	struct service *s = *sp;
	char name[TEXT_ID_MAX + 8];

	if (!s)
		return;
	DIAG_ASSERT(s->state == SERVICE_IDLE);
	s->leaving = true;
	if (!service_worker(s)->kill_group)
		group_signal(&s->group, SIGKILL, s->ops->living, s->ctx);
	group_close(&s->group, &s->cg, group_name(s, name));
	service_log_close(s);
	free(s);
	*sp = NULL;
}

void service_set_spec(struct service *s, const struct spec_image *img, const struct spec_child *spec)
{
	s->img = img;
	s->spec = spec;
}

/* --- orders --- */

void service_start(struct service *s)
{
	DIAG_ASSERT(s->state == SERVICE_IDLE);
	s->state = SERVICE_STARTING;
	s->asked = s->stop_sent = s->kill_sent = s->watchdog_fired = s->reaped = false;
	s->about_to_exec = s->executed = s->probed = s->ignored = s->has_known = false;
	s->member = 0;
	s->last_pid = 0;
	s->since_ms = clock_mono_ms();
	s->ran_ms = 0;
	s->extension_ms = 0;
	s->status_text[0] = '\0';
	s->mode = service_worker(s)->ready;
	s->clearing = service_worker(s)->kill_group && s->group.dirfd >= 0;
	if (s->clearing)
		service_drain_begin(s);
	else
		service_spawn(s);
}

void service_stop(struct service *s)
{
	int64_t now = clock_mono_ms();

	if (s->state == SERVICE_IDLE || s->state == SERVICE_DRAINING)
		return;
	s->asked = true;
	s->stop_at_ms = s->spec->sup.shutdown_ms >= 0 ? now + s->spec->sup.shutdown_ms : INT64_MAX;
	s->extension_ms = 0;
	if (s->pid == 0)
		return;
	s->stop_sent = true;
	s->stop_signal = service_worker(s)->stop_signal;
	if (service_is_module(s))
		service_module_stop(s);
	else
		service_send(s, s->stop_signal, text_signal_name(s->stop_signal));
	if (!s->reaped)
		kill(s->pid, SIGCONT);
}

void service_kill(struct service *s)
{
	if (s->state == SERVICE_IDLE)
		return;
	if (s->state != SERVICE_DRAINING)
		s->asked = true;
	if (s->pid != 0) {
		s->kill_sent = true;
		service_send(s, SIGKILL, "KILL");
	} else if (s->bridge != 0) {
		kill(s->bridge, SIGKILL);
	}
	if (service_worker(s)->kill_group) {
		s->soft = false;
		group_signal(&s->group, SIGKILL, s->ops->living, s->ctx);
	}
}

int service_signal(struct service *s, int sig)
{
	if (s->pid == 0 || s->reaped) {
		errno = ESRCH;
		return -1;
	}
	return kill(s->pid, sig);
}

/* It is our child and not reaped: the number is still its own. */
void service_send(struct service *s, int sig, const char *how)
{
	if (s->reaped)
		return;
	s->ops->stopping(s->ctx, how);
	kill(s->pid, sig);
}

void service_close_source(struct service *s, struct loop_source *src)
{
	int fd = src->fd;

	loop_detach(s->loop, src);
	fds_close(&fd);
}

/* --- looking --- */

pid_t service_pid(const struct service *s)
{
	return s->pid;
}

int64_t service_since_ms(const struct service *s)
{
	return s->pid != 0 ? s->since_ms : 0;
}

const char *service_log_dir(const struct service *s)
{
	return service_log_where(s);
}

const char *service_status_text(const struct service *s)
{
	return s->status_text;
}

/* Leftovers that may stay (kill_group = false) belong to their service as long as there is one. */
const char *service_invocation(const struct service *s)
{
	if (s->pid != 0)
		return s->group.invocation;
	if (s->leaving || s->state == SERVICE_FAILING || service_worker(s)->kill_group)
		return "";
	return s->group.invocation;
}

int64_t service_extension_ms(const struct service *s)
{
	return s->extension_ms;
}

bool service_draining(const struct service *s)
{
	return s->pid == 0 && s->bridge == 0 && (s->state == SERVICE_DRAINING || s->state == SERVICE_FAILING || s->clearing);
}
