/* What is to be written of a change beside it: UsersAudit and UsersEvents. */
#ifndef USERS_API_NOTE_H
#define USERS_API_NOTE_H

#include "db/db.h"

#include <httpd.h>

/*
 * The note of a change that this principal asks for (sql/contract.sql), in memory of the request;
 * NULL where the server has neither on. fields: names with a blank between them, of a registration;
 * NULL: the database finds them.
 */
const char *users_note_write(request_rec *r, const users_principal *principal, const char *fields);

#endif
