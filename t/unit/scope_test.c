#include "core/scope.h"

#include "unit.h"
#include <apr_strings.h>
#include <string.h>

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

static void covers_every_word(void **state)
{
    static const struct {
        const char *scopes;
        const char *asked;
        bool covered;
    } rows[] = {
        {"a b c", "a", true}, {"a b c", "c a", true}, {"a b", "a b", true}, {"a b", "a a", true},
        {"a", "", true},      {"a", "a b", false},    {"a", "b", false},    {"ab", "a b", false},
        {"", "a", false},     {NULL, "a", false},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        if (users_scope_covers(rows[i].scopes, rows[i].asked, *state) != rows[i].covered) {
            fail_msg("\"%s\" in \"%s\"", rows[i].asked, rows[i].scopes);
        }
    }
}

static void judges_the_form(void **state)
{
    static const struct {
        const char *scopes;
        bool valid;
    } rows[] = {
        {"profile_read", true},
        {"public register", true},
        {"!#[]~", true},
        {"https://api.example/read", true},
        {"", false},
        {" ", false},
        {"  ", false},
        {" a", true},
        {"a ", true},
        {"a  b", true},
        {"a\tb", false},
        {"a\"b", false},
        {"a\\b", false},
        {"a\x7f", false},
        {"caf\xC3\xA9", false},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        if (users_scope_is_valid(rows[i].scopes) != rows[i].valid) {
            fail_msg("\"%s\"", rows[i].scopes);
        }
    }
}

static void is_a_set(void **state)
{
    static const struct {
        const char *scopes;
        const char *set;
    } rows[] = {
        {"a", "a"}, {"a b", "a b"}, {"b a", "b a"},     {"a a", "a"},   {" a  b ", "a b"},
        {"", ""},   {"   ", ""},    {"a ab a", "a ab"}, {"A a", "A a"}, {"b a b a", "b a"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        assert_string_equal(users_scope_set(rows[i].scopes, *state), rows[i].set);
    }
}

static void limits_a_set(void **state)
{
    char *long_word = apr_pcalloc(*state, USERS_SCOPE_LENGTH + 2);
    const char *words = "1";
    memset(long_word, 'a', USERS_SCOPE_LENGTH);
    assert_true(users_scope_fits(long_word));
    long_word[USERS_SCOPE_LENGTH] = 'a';
    assert_false(users_scope_fits(long_word));
    assert_true(users_scope_fits(""));
    for (int i = 2; i <= USERS_SCOPE_WORDS; i++) {
        words = apr_psprintf(*state, "%s %d", words, i);
    }
    assert_true(users_scope_fits(words));
    assert_false(users_scope_fits(apr_pstrcat(*state, words, " x", NULL)));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(contains_whole_words_only),
    cmocka_unit_test(covers_every_word),
    cmocka_unit_test(judges_the_form),
    cmocka_unit_test(is_a_set),
    cmocka_unit_test(limits_a_set),
};

UNIT_MAIN(tests)
