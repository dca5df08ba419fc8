#include "usersctl/audit.h"

#include "usersctl/stretches.h"

users_exit users_audit_list(users_invocation *invocation)
{
    static const users_filter filters[] = {
        {USERS_ARG_USER, "user"},     {USERS_ARG_APPLICATION, "application"},
        {USERS_ARG_ACTION, "action"}, {USERS_ARG_SINCE, "since"},
        {USERS_ARG_UNTIL, "until"},   {USERS_ARG_NONE, NULL},
    };

    return users_stretches_list(invocation, "next_audit", "list_audit", filters);
}
