#include "core/scope.h"

#include "unit.h"

static void contains_whole_words_only(void **state)
{
    static const struct {
        const char *scopes;
        const char *scope;
        bool contained;
    } rows[] = {
        {"profile_read", "profile_read", true},
        {"profile_read profile_update", "profile_read", true},
        {"public profile_read register", "profile_read", true},
        {"public register", "register", true},
        {"public  register", "register", true},
        {" register ", "register", true},
        {"profile_readx", "profile_read", false},
        {"xprofile_read", "profile_read", false},
        {"profile_rea", "profile_read", false},
        {"profile_readx profile_read", "profile_read", true},
        {"Profile_Read", "profile_read", false},
        {"profile_read,profile_update", "profile_read", false},
        {"profile_read\tprofile_update", "profile_read", false},
        {"a b", "a b", false},
        {"a", "", false},
        {"a  b", "", false},
        {"", "", false},
        {"", "register", false},
        {" ", "register", false},
        {NULL, "register", false},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        if (users_scope_contains(rows[i].scopes, rows[i].scope) != rows[i].contained) {
            fail_msg("\"%s\" in \"%s\"", rows[i].scope, rows[i].scopes);
        }
    }
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(contains_whole_words_only),
};

UNIT_MAIN(tests)
