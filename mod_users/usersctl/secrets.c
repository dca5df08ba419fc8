#include "usersctl/secrets.h"

#include "core/credential.h"

#include <apr_escape.h>
#include <apr_strings.h>
#include <stdio.h>
#include <string.h>

#define INPUT_MAX 4096

/* A new secret or name. Not one that begins with a dash, which a command takes for an option. */
static const char *generate(apr_pool_t *pool, int octets)
{
    const char *text;

    do {
        text = users_credential_generate((apr_size_t)octets, pool);
    } while (text && text[0] == '-');
    return text;
}

static users_exit digest_of(users_invocation *invocation, const char *secret, const char **hex)
{
    unsigned char digest[USERS_DIGEST_LENGTH];

    if (!secret || !users_credential_digest(secret, digest)) {
        return users_output_complain(USERS_EXIT_FAILED, "libcrypto makes no secret");
    }
    *hex = apr_pescape_hex(invocation->pool, digest, sizeof(digest), 0);
    return USERS_EXIT_DONE;
}

/* Standard input but for a line break at its end, in memory of pool; NULL: it is not one line. */
static const char *read_line(apr_pool_t *pool)
{
    char *line = apr_palloc(pool, INPUT_MAX + 1);
    size_t length = fread(line, 1, INPUT_MAX, stdin);

    if (length > 0 && line[length - 1] == '\n') {
        length--;
    }
    line[length] = '\0';
    return length == strcspn(line, "\r\n") ? line : NULL;
}

/* token revoke -: a token that we did not make may be short. */
static users_exit read_token(users_invocation *invocation)
{
    const char *token = read_line(invocation->pool);

    if (!token || !*token) {
        return users_output_complain(USERS_EXIT_USAGE, "standard input must be one token");
    }
    return digest_of(invocation, token, &invocation->values[USERS_ARG_HANDLE]);
}

static users_exit read_hash(users_invocation *invocation)
{
    const char *hash = read_line(invocation->pool);

    if (!hash || !users_argument_is_hash(hash)) {
        return users_output_complain(
            USERS_EXIT_USAGE, "standard input must be a password's hash: bcrypt ($2y$), $apr1$, "
                              "$5$, $6$, $y$ or {SHA}");
    }
    invocation->values[USERS_ARG_HASH] = hash;
    return USERS_EXIT_DONE;
}

/* The digest is a bytea, in PostgreSQL's notation. */
static users_exit store_digest(users_invocation *invocation, const char *secret)
{
    const char *hex = NULL;
    users_exit status = digest_of(invocation, secret, &hex);

    invocation->values[USERS_ARG_DIGEST] = apr_pstrcat(invocation->pool, "\\x", hex, NULL);
    return status;
}

static users_exit read_client_secret(users_invocation *invocation)
{
    const char *secret = read_line(invocation->pool);

    if (!secret || !users_argument_is_secret(secret)) {
        return users_output_complain(USERS_EXIT_USAGE,
                                     "standard input must be a client secret: 20 to 255 "
                                     "characters of printable ASCII without spaces");
    }
    return store_digest(invocation, secret);
}

users_exit users_secrets_prepare(users_invocation *invocation)
{
    const users_command *command = invocation->command;
    const char **values = invocation->values;

    if (values[USERS_ARG_HANDLE] && strcmp(values[USERS_ARG_HANDLE], "-") == 0) {
        return read_token(invocation);
    }
    if (values[USERS_ARG_HASH] && !values[USERS_ARG_USERNAME]) {
        /* both come from elsewhere; a generated name has a generated password */
        return users_output_complain(USERS_EXIT_USAGE, "--hash needs the --username that it is of");
    }
    if (command->made != USERS_ARG_NONE && !values[command->made]) {
        values[command->made] = generate(invocation->pool, USERS_NAME_OCTETS);
        if (!values[command->made]) {
            return users_output_complain(USERS_EXIT_FAILED, "libcrypto makes no name");
        }
    }
    if (values[USERS_ARG_HASH]) {
        return read_hash(invocation);
    }
    if (values[USERS_ARG_SECRET]) {
        return read_client_secret(invocation);
    }
    if (command->secret) {
        invocation->secret = generate(invocation->pool, command->secret_octets);
        return store_digest(invocation, invocation->secret);
    }
    return USERS_EXIT_DONE;
}
