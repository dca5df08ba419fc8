#include "db/db.h"

#include <apr_strings.h>
#include <libpq-fe.h>
#include <string.h>

bool users_conninfo_read(const char *conninfo, const char *keyword, apr_pool_t *pool,
                         const char **value)
{
    PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
    bool readable = options != NULL;

    *value = NULL;
    for (const PQconninfoOption *o = options; o && o->keyword; o++) {
        if (strcmp(o->keyword, keyword) == 0) {
            *value = apr_pstrdup(pool, o->val);
        }
    }
    PQconninfoFree(options);
    return readable;
}
