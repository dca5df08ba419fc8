/* What is counted of a database, in the figures that its settings name. */
#ifndef USERS_DB_COUNT_H
#define USERS_DB_COUNT_H

#include "core/figures.h"
#include "db/db.h"

/* word: the first of a figure whose last label is the role, or of its series with another label. */
static inline void users_db_count(const users_db_settings *settings, int word, int change)
{
    users_figures_add(settings->figures, word + (int)settings->role, change);
}

static inline void users_db_note(const users_db_settings *settings, int word, apr_time_t when)
{
    users_figures_note(settings->figures, word + (int)settings->role, when);
}

/* The same of a figure that has no role. */
static inline void users_db_count_one(const users_db_settings *settings, int word)
{
    users_figures_add(settings->figures, word, 1);
}

/* A statement was shared by so many requests. */
static inline void users_db_count_batch(const users_db_settings *settings, users_batch_kind kind,
                                        int requests)
{
    users_figures_observe(settings->figures,
                          USERS_FIGURE_BATCHES + (int)kind * USERS_HISTOGRAM(USERS_BATCH_BOUNDS),
                          &users_scale_batch, (apr_uint64_t)requests);
}

#endif
