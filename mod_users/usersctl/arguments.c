#include "usersctl/arguments.h"

#include "core/scope.h"
#include "core/unicode.h"

#include <apr_strings.h>
#include <stdlib.h>
#include <string.h>

#define DIGITS  "0123456789"
#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

#define TEXT_MAX   255 /* octets */
#define USER_MAX   4096
#define SECRET_MIN 20 /* characters: SHA-256 alone protects nothing that can be guessed */
#define YEAR       APR_INT64_C(31536000) /* seconds */

static bool has_length(const char *text, size_t min, size_t max)
{
    size_t length = strlen(text);

    return length >= min && length <= max;
}

static bool holds_only(const char *text, const char *characters)
{
    return text[strspn(text, characters)] == '\0';
}

/* Printable ASCII from first on. */
static bool is_printable(const char *text, unsigned char first)
{
    for (; *text; text++) {
        if ((unsigned char)*text < first || (unsigned char)*text > '~') {
            return false;
        }
    }
    return true;
}

/* Something to be seen, in any script, on one line of UTF-8. */
static bool is_name(const char *text)
{
    users_span span = users_span_of(text);

    return has_length(text, 1, TEXT_MAX) && !users_has_control(span) && !users_is_blank(span);
}

static bool is_username(const char *text)
{
    return is_name(text) && !strchr(text, ':'); /* which ends it in Basic authentication */
}

static bool is_client_id(const char *text)
{
    return has_length(text, 1, TEXT_MAX) && is_printable(text, '!');
}

/* PostgreSQL reads these as intervals as they are. Beyond 100 years its calendar may end. */
int64_t users_argument_seconds(const char *text)
{
    static const struct {
        char unit;
        apr_int64_t seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 604800}, {'y', YEAR}};
    size_t digits = strspn(text, DIGITS);

    if (digits == 0 || digits > 10 || text[0] == '0' || strlen(text) != digits + 1) {
        return 0;
    }
    for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++) {
        if (text[digits] == units[i].unit && apr_atoi64(text) <= 100 * YEAR / units[i].seconds) {
            return apr_atoi64(text) * units[i].seconds;
        }
    }
    return 0;
}

static bool is_duration(const char *text)
{
    return users_argument_seconds(text) > 0;
}

/* How long a message may take. */
static bool is_timeout(const char *text)
{
    return is_duration(text) && users_argument_seconds(text) <= 300;
}

static bool is_count(const char *text)
{
    return text[0] != '0' && has_length(text, 1, 7) && holds_only(text, DIGITS) &&
           strtol(text, NULL, 10) <= 1000000;
}

static bool is_parallel(const char *text)
{
    return is_count(text) && strtol(text, NULL, 10) <= 256;
}

static bool is_id(const char *text)
{
    return has_length(text, 1, 18) && holds_only(text, DIGITS);
}

/* IDs with commas between them. */
static bool is_ids(const char *text)
{
    size_t length = strspn(text, DIGITS);

    if (length < 1 || length > 18) {
        return false;
    }
    return text[length] == '\0' || (text[length] == ',' && is_ids(text + length + 1));
}

static bool is_state(const char *text)
{
    return strcmp(text, "waiting") == 0 || strcmp(text, "failing") == 0 ||
           strcmp(text, "dead") == 0;
}

static bool is_country(const char *text)
{
    return has_length(text, 2, 2) && holds_only(text, LETTERS);
}

static bool is_date(const char *text)
{
    static const char form[] = "0000-00-00";
    static const long days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    long year = strtol(text, NULL, 10);
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    long month;
    long day;

    for (size_t i = 0; i < sizeof(form); i++) {
        if (form[i] == '0' ? !text[i] || !strchr(DIGITS, text[i]) : text[i] != form[i]) {
            return false;
        }
    }
    month = strtol(text + 5, NULL, 10);
    day = strtol(text + 8, NULL, 10);
    return year >= 1 && month >= 1 && month <= 12 && day >= 1 &&
           day <= days[month - 1] + (leap && month == 2);
}

static bool is_action(const char *text)
{
    static const char *const actions[] = {"user.created", "user.updated", "credential.replaced"};

    for (size_t i = 0; i < sizeof(actions) / sizeof(*actions); i++) {
        if (strcmp(text, actions[i]) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_format(const char *text)
{
    return strcmp(text, "csv") == 0 || strcmp(text, "ndjson") == 0;
}

/* The longest names an account, its provider's server and user, and an application. */
static bool is_user(const char *text)
{
    users_span span = users_span_of(text);

    return has_length(text, 1, USER_MAX) && !users_has_control(span) && !users_is_blank(span);
}

static bool is_handle(const char *text)
{
    return strcmp(text, "-") == 0 ||
           (has_length(text, 8, 64) && holds_only(text, DIGITS "abcdefABCDEF"));
}

bool users_argument_is_secret(const char *text)
{
    return has_length(text, SECRET_MIN, TEXT_MAX) && is_printable(text, '!');
}

bool users_argument_is_hash(const char *text)
{
    static const char *const others[] = {"$apr1$", "$5$", "$6$", "$y$", "{SHA}"};

    if (strncmp(text, "$2", 2) == 0) { /* bcrypt: $2y$, the cost, $, salt and hash */
        return has_length(text, 60, 60) && strchr("aby", text[2]) && text[3] == '$' &&
               strspn(text + 4, DIGITS) == 2 && text[6] == '$' &&
               holds_only(text + 7, "./" DIGITS LETTERS);
    }
    for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++) {
        if (strncmp(text, others[i], strlen(others[i])) == 0) {
            return has_length(text, SECRET_MIN, TEXT_MAX) && is_printable(text, '!');
        }
    }
    return false;
}

/* As users_admin.unknown_scopes() knows them. */
#define SCOPES_KNOWN     "profile_read, profile_update, register, introspect, public"
#define CLIENT_ID_WANTED "1 to 255 characters of printable ASCII without spaces"
#define SCOPES_WANTED    "words of printable ASCII with spaces between them"
#define DURATION_WANTED  "a number and one of s, m, h, d, w, y, such as 30d, and at most 100y"
#define NAME_WANTED      "1 to 255 octets on one line, not blank"
#define DATE_WANTED      "a date such as 2026-01-31"
#define ACTIONS          "user.created, user.updated, credential.replaced"
#define COUNT_WANTED     "a number from 1 to 1000000"

const users_argument_kind users_arguments[USERS_ARG_COUNT] = {
    [USERS_ARG_DB] = {.option = "db",
                      .operand = "CONNINFO",
                      .help = "which database: a name, a conninfo string or a URI"},
    [USERS_ARG_JSON] = {.option = "json", .help = "answer in JSON"},
    [USERS_ARG_HELP] = {.option = "help", .help = "tell the commands"},
    [USERS_ARG_VERSION] = {.option = "version", .help = "tell the version"},

    [USERS_ARG_APPLICATION] = {.option = "application",
                               .operand = "CLIENT_ID",
                               .help = "the tokens' application, or that of the accounts",
                               .accepts = is_client_id,
                               .wanted = CLIENT_ID_WANTED},
    [USERS_ARG_CLIENT_ID] = {.option = "client-id",
                             .operand = "CLIENT_ID",
                             .help = "in place of a generated one",
                             .accepts = is_client_id,
                             .wanted = CLIENT_ID_WANTED},
    [USERS_ARG_SCOPES] = {.option = "scopes",
                          .operand = "SCOPES",
                          .help = "words with a space between them",
                          .words = SCOPES_KNOWN,
                          .accepts = users_scope_is_valid,
                          .wanted = SCOPES_WANTED},
    [USERS_ARG_DEFAULT_SCOPES] = {.option = "default-scopes",
                                  .operand = "SCOPES",
                                  .help = "what a token gets whose request names none",
                                  .words = SCOPES_KNOWN,
                                  .accepts = users_scope_is_valid,
                                  .wanted = SCOPES_WANTED},
    [USERS_ARG_USER] = {.option = "user",
                        .operand = "USER",
                        .help = "whose: an id, an e-mail address, or external_id=ID or "
                                "provider_server=SERVER,provider_username=NAME, both with "
                                "application=CLIENT_ID where one of several is meant",
                        .accepts = is_user,
                        .wanted = "1 to 4096 octets on one line, not blank"},
    [USERS_ARG_USERNAME] = {.option = "username",
                            .operand = "USERNAME",
                            .help = "in place of a generated one",
                            .accepts = is_username,
                            .wanted = "1 to 255 octets on one line, without a colon"},
    [USERS_ARG_EXPIRES] = {.option = "expires",
                           .operand = "DURATION",
                           .help = "how long it is valid, such as 30d",
                           .accepts = is_duration,
                           .wanted = DURATION_WANTED},
    [USERS_ARG_SECRET] = {.option = "secret", .help = "take the client secret from standard input"},
    [USERS_ARG_HASH] = {.option = "hash",
                        .help = "take over the password's hash from standard input"},
    [USERS_ARG_KEEP_OLD] = {.option = "keep-old",
                            .operand = "DURATION",
                            .help = "how long the old client secret works beside the new one",
                            .accepts = is_duration,
                            .wanted = DURATION_WANTED},
    [USERS_ARG_OLDER_THAN] = {.option = "older-than",
                              .operand = "DURATION",
                              .help = "spare what died later than that ago",
                              .initial = "1d",
                              .accepts = is_duration,
                              .wanted = DURATION_WANTED},
    [USERS_ARG_AUDIT_OLDER_THAN] = {.option = "audit-older-than",
                                    .operand = "DURATION",
                                    .help = "spare what was written to the audit later than that "
                                            "ago",
                                    .initial = "1y",
                                    .accepts = is_duration,
                                    .wanted = DURATION_WANTED},
    [USERS_ARG_BATCH] = {.option = "batch",
                         .operand = "ROWS",
                         .help = "about how many rows one transaction looks at",
                         .initial = "10000",
                         .accepts = is_count,
                         .wanted = COUNT_WANTED},
    [USERS_ARG_LIMIT] = {.option = "limit",
                         .operand = "ROWS",
                         .help = "show that many",
                         .initial = "100",
                         .accepts = is_count,
                         .wanted = COUNT_WANTED},
    [USERS_ARG_SQL] = {.option = "sql",
                       .operand = "DIR",
                       .help = "where the SQL of this version lies",
                       .initial = USERS_SQL_DIR},
    [USERS_ARG_PLAN] = {.option = "plan",
                        .operand = "PLAN",
                        .help = "by id or name",
                        .accepts = is_name,
                        .wanted = NAME_WANTED},
    [USERS_ARG_GROUP] = {.option = "group",
                         .operand = "GROUP",
                         .help = "by id or name",
                         .accepts = is_name,
                         .wanted = NAME_WANTED},
    [USERS_ARG_COUNTRY] = {.option = "country",
                           .operand = "COUNTRY",
                           .help = "where the accounts are",
                           .accepts = is_country,
                           .wanted = "two letters (ISO 3166-1)"},
    [USERS_ARG_DOMAIN] = {.option = "domain",
                          .operand = "DOMAIN",
                          .help = "of the e-mail addresses",
                          .accepts = is_name,
                          .wanted = NAME_WANTED},
    [USERS_ARG_CREATED_SINCE] = {.option = "created-since",
                                 .operand = "DATE",
                                 .help = "made on that day (UTC) or later",
                                 .accepts = is_date,
                                 .wanted = DATE_WANTED},
    [USERS_ARG_ACTION] = {.option = "action",
                          .operand = "ACTION",
                          .help = "what was done",
                          .words = ACTIONS,
                          .accepts = is_action,
                          .wanted = "one of " ACTIONS},
    [USERS_ARG_SINCE] = {.option = "since",
                         .operand = "DATE",
                         .help = "on that day (UTC) or later",
                         .accepts = is_date,
                         .wanted = DATE_WANTED},
    [USERS_ARG_UNTIL] = {.option = "until",
                         .operand = "DATE",
                         .help = "on that day (UTC) or before",
                         .accepts = is_date,
                         .wanted = DATE_WANTED},
    [USERS_ARG_SUSPENDED] = {.option = "suspended", .help = "only accounts that are suspended"},
    [USERS_ARG_NEWEST] = {.option = "newest", .help = "begin with the last"},
    [USERS_ARG_AFTER] = {.option = "after",
                         .operand = "ID",
                         .help = "go on behind the row with this id",
                         .accepts = is_id,
                         .wanted = "the id of a row"},
    [USERS_ARG_YES] = {.option = "yes", .help = "do it, and do not only say what it would be"},
    [USERS_ARG_FORMAT] = {.option = "format",
                          .operand = "FORMAT",
                          .help = "csv or ndjson, where the first octet does not tell",
                          .words = "csv, ndjson",
                          .accepts = is_format,
                          .wanted = "csv or ndjson"},
    [USERS_ARG_SETTINGS] = {.option = "settings",
                            .operand = "FILE",
                            .help = "what apache2ctl -t -D DUMP_USERS has printed; -: on standard "
                                    "input"},
    [USERS_ARG_HOSTS] = {.option = "hosts",
                         .operand = "COUNT",
                         .help = "how many hosts have httpd with these settings",
                         .initial = "1",
                         .accepts = is_count,
                         .wanted = COUNT_WANTED},
    [USERS_ARG_ENDPOINT] = {.option = "endpoint",
                            .operand = "FILE",
                            .help = "where events are sent to, and the secrets that sign them"},
    [USERS_ARG_ONCE] = {.option = "once", .help = "end when no event is due"},
    [USERS_ARG_PARALLEL] = {.option = "parallel",
                            .operand = "COUNT",
                            .help = "send that many events at once, at most",
                            .initial = "8",
                            .accepts = is_parallel,
                            .wanted = "a number from 1 to 256"},
    [USERS_ARG_TIMEOUT] = {.option = "timeout",
                           .operand = "DURATION",
                           .help = "how long the receiver may take for an event",
                           .initial = "20s",
                           .accepts = is_timeout,
                           .wanted = "a number and s or m, such as 20s, and at most 5m"},
    [USERS_ARG_ATTEMPTS] = {.option = "attempts",
                            .operand = "COUNT",
                            .help = "how often it is tried to deliver an event",
                            .initial = "15",
                            .accepts = is_count,
                            .wanted = COUNT_WANTED},
    [USERS_ARG_STATE] = {.option = "state",
                         .operand = "STATE",
                         .help = "only events of that state",
                         .words = "waiting, failing, dead",
                         .accepts = is_state,
                         .wanted = "waiting, failing or dead"},
    [USERS_ARG_FAILING] = {.option = "failing", .help = "all that wait for another attempt"},
    [USERS_ARG_DEAD] = {.option = "dead", .help = "all that were given up"},
    [USERS_ARG_EVENTS_OLDER_THAN] = {.option = "events-older-than",
                                     .operand = "DURATION",
                                     .help = "spare events that were given up later than that ago",
                                     .initial = "30d",
                                     .accepts = is_duration,
                                     .wanted = DURATION_WANTED},
    [USERS_ARG_EVENTS] = {.operand = "ID,...",
                          .accepts = is_ids,
                          .wanted = "ids of events with commas between them"},
    [USERS_ARG_HANDLE] = {.operand = "HANDLE",
                          .accepts = is_handle,
                          .wanted = "8 to 64 hexadecimal digits of the token's digest, or -"},
    [USERS_ARG_NAME] = {.operand = "NAME", .accepts = is_name, .wanted = NAME_WANTED},
    [USERS_ARG_KIND] = {.operand = "KIND", .accepts = is_name, .wanted = NAME_WANTED},
};
