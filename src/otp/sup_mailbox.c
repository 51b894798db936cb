/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The mailbox of a supervisor core: exits, retries and calls in order of arrival. A doubly
 * linked list whose nodes live in the children and call slots, so that nothing is allocated and
 * an exit that is absorbed can be taken out of the middle.
 */
#include <stddef.h>

#include "otp/sup_private.h"

static struct sup_node *node(struct sup *s, uint32_t n)
{
	if (n >= SUP_CALL_BASE)
		return &s->calls[n - SUP_CALL_BASE].node;
	return &s->child[n / SUP_ITEMS].node[n % SUP_ITEMS];
}

void sup_mail_push(struct sup *s, uint32_t n)
{
	struct sup_node *x = node(s, n);

	if (x->queued)
		return;
	*x = (struct sup_node){ .prev = s->mail_last, .next = SUP_NONE, .queued = true };
	if (s->mail_last == SUP_NONE)
		s->mail_first = n;
	else
		node(s, s->mail_last)->next = n;
	s->mail_last = n;
}

void sup_mail_remove(struct sup *s, uint32_t n)
{
	struct sup_node *x = node(s, n);

	if (!x->queued)
		return;
	x->queued = false;
	if (x->prev == SUP_NONE)
		s->mail_first = x->next;
	else
		node(s, x->prev)->next = x->next;
	if (x->next == SUP_NONE)
		s->mail_last = x->prev;
	else
		node(s, x->next)->prev = x->prev;
}

uint32_t sup_mail_pop_call(struct sup *s)
{
	uint32_t n = s->mail_first;

	while (n != SUP_NONE && n < SUP_CALL_BASE)
		n = node(s, n)->next;
	if (n != SUP_NONE)
		sup_mail_remove(s, n);
	return n;
}

void sup_mail_forget(struct sup *s, uint32_t slot)
{
	uint32_t i;

	for (i = 0; i < SUP_ITEMS; i++)
		sup_mail_remove(s, slot * SUP_ITEMS + i);
	for (i = 0; s->n_calls > 0 && i < SUP_CALLS_MAX; i++)
		if (s->calls[i].slot == slot)
			s->calls[i].slot = SUP_NONE;
}

uint32_t sup_mail_pop(struct sup *s)
{
	uint32_t n = s->mail_first;

	if (n != SUP_NONE)
		sup_mail_remove(s, n);
	return n;
}
