/*
 * How many connections httpd may open to a server of PostgreSQL, and how many that has for it. The
 * children of httpd have one memory of that, which reloads keep.
 */
#ifndef USERS_DB_CAPACITY_H
#define USERS_DB_CAPACITY_H

#include "core/episode.h"
#include "db/trouble.h"

/* Of one server, whichever databases of it are used. In shared memory, zero at first. */
struct users_capacity {
    apr_uint32_t children; /* of httpd, at most */
    apr_uint32_t each;     /* connections of a child, at most */
    apr_uint32_t allowed;  /* by PostgreSQL; 0: nobody has asked it yet */
    char limit[128];       /* which of its settings allows no more */
    apr_uint32_t told;     /* that it allows too few for so many */
    users_episode full;    /* it has had no connection for us */
};

/* How many connections httpd may open at most. */
apr_uint32_t users_capacity_demand(struct users_capacity *capacity);

/*
 * PostgreSQL allows so many, because of this limit: the log has a warning where the settings may
 * open more.
 */
void users_capacity_learn(const users_witness *witness, apr_uint32_t allowed, const char *limit);

/* A connection was refused, for this reason: the log is told once, whichever child it is. */
void users_capacity_exhausted(const users_witness *witness, const char *reason);

/* A statement went well: that may be over. */
void users_capacity_pass(const users_witness *witness);

#endif
