/*
 * The codes that programs can rely on: one stands beside each sentence in problem details, and
 * doc/openapi.yaml lists them. A code is never renamed; a new one may come.
 */
#ifndef USERS_CORE_CODE_H
#define USERS_CORE_CODE_H

/* clang-format off */
#define USERS_CODES(code) \
    /* of a request */ \
    code(MALFORMED_HEADER, "malformed_header") \
    code(REPEATED_AUTHORIZATION, "repeated_authorization") \
    code(MALFORMED_BODY, "malformed_body") \
    code(UNREADABLE_BODY, "unreadable_body") \
    code(CREDENTIALS_REQUIRED, "credentials_required") \
    code(INVALID_TOKEN, "invalid_token") \
    code(WRONG_CREDENTIALS, "wrong_credentials") \
    code(INSUFFICIENT_SCOPE, "insufficient_scope") \
    code(ACCOUNT_SUSPENDED, "account_suspended") \
    code(NO_ACCOUNT, "no_account") \
    code(FORBIDDEN, "forbidden") \
    code(NOT_FOUND, "not_found") \
    code(METHOD_NOT_ALLOWED, "method_not_allowed") \
    code(NOT_ACCEPTABLE, "not_acceptable") \
    code(REQUEST_TIMEOUT, "request_timeout") \
    code(ALREADY_REGISTERED, "already_registered") \
    code(KEY_UNDER_WAY, "key_under_way") \
    code(KEY_ENDED, "key_ended") \
    code(KEY_REUSED, "key_reused") \
    code(STALE, "stale") \
    code(BODY_TOO_LARGE, "body_too_large") \
    code(UNSUPPORTED_TYPE, "unsupported_type") \
    code(UNSUPPORTED_ENCODING, "unsupported_encoding") \
    code(TOO_MANY_FAILURES, "too_many_failures") \
    code(TOO_MANY_PROBES, "too_many_probes") \
    code(TOO_MANY_REQUESTS, "too_many_requests") \
    code(INTERNAL_ERROR, "internal_error") \
    code(METHOD_NOT_KNOWN, "method_not_known") \
    code(UNAVAILABLE, "unavailable") \
    code(BUSY, "busy") \
    code(OUTCOME_UNKNOWN, "outcome_unknown") \
    code(TIMEOUT, "timeout") \
    /* of a field, or of api_version */ \
    code(BLANK, "blank") \
    code(TOO_LONG, "too_long") \
    code(TOO_LARGE, "too_large") \
    code(INVALID, "invalid") \
    code(CONTROL_CHARACTERS, "control_characters") \
    code(WRONG_TYPE, "wrong_type") \
    code(NOT_KNOWN, "not_known") \
    code(TAKEN, "taken") \
    code(AMBIGUOUS, "ambiguous") \
    code(READ_ONLY, "read_only") \
    code(UNKNOWN_FIELD, "unknown_field") \
    code(NOT_SUPPORTED, "not_supported")
/* clang-format on */

typedef enum {
    USERS_CODE_NONE,
#define USERS_CODE_DECLARE(code, name) USERS_CODE_##code,
    USERS_CODES(USERS_CODE_DECLARE)
#undef USERS_CODE_DECLARE
} users_code;

/* What stands in the answer; NULL for USERS_CODE_NONE. */
const char *users_code_name(users_code code);

/* Of a refusal that says no more than its status does. */
users_code users_code_of_status(int status);

/*
 * Of a fault of a field, by what follows the field in its sentence ("can't be blank"), which is
 * also all that the database tells of one. USERS_CODE_INVALID where the text is not a known one.
 */
users_code users_code_of_fault(const char *text);

#endif
