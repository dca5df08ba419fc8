#include "http/figures.h"

#include "config/settings.h"
#include "http/process.h"

#include <http_core.h>
#include <http_log.h>
#include <unistd.h>

APLOG_USE_MODULE(users);

#define LINE       64  /* octets that processors share: none of two slots' */
#define SLOTS_MOST 512 /* 5 MiB; more children than that count in each other's */

typedef struct {
    _Atomic(apr_uint32_t) owner; /* process id; 0: none */
    _Alignas(LINE) users_figures figures;
} slot;

static slot *slots; /* NULL: there is no shared memory */
static int slot_count;

static users_figures own; /* of a child that has no slot */
static users_figures *here = &own;

static bool is_needed(const server_rec *s)
{
    for (; s; s = s->next) {
        if (users_settings_of(s)->conninfo || users_settings_of(s)->endpoints->nelts) {
            return true;
        }
    }
    return false;
}

int users_figures_start(apr_pool_t *pconf, apr_pool_t *plog, apr_pool_t *ptemp, server_rec *s)
{
    char *memory;

    (void)pconf;
    (void)plog;
    (void)ptemp;
    slots = NULL;
    if (ap_state_query(AP_SQ_MAIN_STATE) == AP_SQ_MS_CREATE_PRE_CONFIG || !is_needed(s)) {
        return OK;
    }
    slot_count = 1;
    ap_mpm_query(AP_MPMQ_HARD_LIMIT_DAEMONS, &slot_count);
    slot_count = slot_count < 1 ? 1 : slot_count < SLOTS_MOST ? slot_count : SLOTS_MOST;
    memory = users_process_shared(s, "figures 1", ((apr_size_t)slot_count + 1) * sizeof(slot));
    if (!memory) {
        ap_log_error(APLOG_MARK, APLOG_CRIT, 0, s,
                     "no shared memory could be had for figures: \"UsersEndpoint metrics\" and "
                     "server-status have none");
        return OK;
    }
    slots = (void *)(memory + (LINE - (apr_uintptr_t)memory % LINE) % LINE);
    return OK;
}

static bool take(slot *place, apr_uint32_t pid)
{
    apr_uint32_t nobody = 0;

    return atomic_compare_exchange_strong(&place->owner, &nobody, pid);
}

/* Where all are taken, another one's: what is counted is right all the same. */
static slot *find_slot(apr_uint32_t pid)
{
    for (int i = 0; i < slot_count; i++) {
        if (take(&slots[i], pid)) {
            return &slots[i];
        }
    }
    return &slots[pid % (apr_uint32_t)slot_count];
}

void users_figures_open(apr_pool_t *pchild, server_rec *s)
{
    (void)pchild;
    (void)s;
    if (slots) {
        here = &find_slot((apr_uint32_t)getpid())->figures;
        users_count(USERS_FIGURE_CHILDREN);
    }
}

void users_figures_note_child(server_rec *s, pid_t pid, ap_generation_t generation, int place,
                              mpm_child_status state)
{
    (void)s;
    (void)generation;
    (void)place;
    for (int i = 0; state == MPM_CHILD_EXITED && slots && i < slot_count; i++) {
        if (atomic_load(&slots[i].owner) == (apr_uint32_t)pid) {
            users_figures_end(&slots[i].figures);
            atomic_store(&slots[i].owner, 0);
        }
    }
}

users_figures *users_figures_here(void)
{
    return here;
}

const apr_uint64_t *users_figures_total(apr_pool_t *pool)
{
    apr_uint64_t *total;

    if (!slots) {
        return NULL;
    }
    total = apr_pcalloc(pool, USERS_FIGURE_SIZE * sizeof(*total));
    for (int i = 0; i < slot_count; i++) {
        users_figures_sum(&slots[i].figures, total);
    }
    return total;
}
