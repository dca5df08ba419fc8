#include "usersctl/endpoint.h"

#include "core/wipe.h"

#include <apr_encode.h>
#include <apr_file_info.h>
#include <apr_file_io.h>
#include <apr_strings.h>
#include <apr_user.h>
#include <curl/curl.h>
#include <string.h>
#include <unistd.h>

#define MAX_FILE_SIZE 65536 /* octets */
#define BLANKS        " \t\r"
#define SECRET        "whsec_"
#define KEY_MIN       24 /* octets: Standard Webhooks, "Signature scheme" */
#define KEY_MAX       64

typedef struct {
    apr_pool_t *pool;
    const char *path;
    int line;
    int url_line;
    bool is_http;
    users_endpoint *endpoint;
} reading;

static users_exit complain(const reading *r, const char *what)
{
    return users_output_complain(USERS_EXIT_USAGE, "%s:%d: %s", r->path, r->line, what);
}

/* Settings, a line each */

static users_exit read_url(reading *r, const char *value)
{
    CURLU *url = curl_url();
    char *scheme = NULL;
    users_exit status = USERS_EXIT_DONE;

    if (r->endpoint->url) {
        status = complain(r, "there is a url already");
    } else if (curl_url_set(url, CURLUPART_URL, value, CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK ||
               curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
               (strcmp(scheme, "https") != 0 && strcmp(scheme, "http") != 0)) {
        status = complain(r, "url must be an absolute URL of the scheme https or http");
    } else {
        r->endpoint->url = value;
        r->url_line = r->line;
        r->is_http = strcmp(scheme, "http") == 0;
    }
    curl_free(scheme);
    curl_url_cleanup(url);
    return status;
}

static users_exit read_secret(reading *r, const char *value)
{
    static const char wanted[] =
        "secret must be " SECRET " and the base64 of 24 to 64 random octets, as " SECRET
        "$(openssl rand -base64 24) makes it";
    users_endpoint *e = r->endpoint;
    users_endpoint_secret *secret = &e->secrets[e->secret_count];

    if (e->secret_count == USERS_ENDPOINT_SECRETS) {
        return complain(r, "there are two secrets already");
    }
    if (strncmp(value, SECRET, strlen(SECRET)) != 0) {
        return complain(r, wanted);
    }
    secret->key = apr_pdecode_base64_binary(r->pool, value + strlen(SECRET), APR_ENCODE_STRING,
                                            APR_ENCODE_NONE, &secret->length);
    if (!secret->key || secret->length < KEY_MIN || secret->length > KEY_MAX) {
        return complain(r, wanted);
    }
    users_wipe_later(r->pool, secret->key, secret->length);
    e->secret_count++;
    return USERS_EXIT_DONE;
}

static users_exit read_ca_file(reading *r, const char *value)
{
    if (r->endpoint->ca_file) {
        return complain(r, "there is a ca-file already");
    }
    if (access(value, R_OK) != 0) {
        return complain(r, apr_psprintf(r->pool, "ca-file %s can't be read", value));
    }
    r->endpoint->ca_file = value;
    return USERS_EXIT_DONE;
}

static users_exit read_allow(reading *r, const char *value)
{
    if (strcmp(value, "http") == 0) {
        r->endpoint->allow_http = true;
    } else if (strcmp(value, "private") == 0) {
        r->endpoint->allow_private = true;
    } else {
        return complain(r, "allow must be http or private");
    }
    return USERS_EXIT_DONE;
}

static const struct {
    const char *name;
    users_exit (*read)(reading *, const char *value);
} settings[] = {
    {"url", read_url}, {"secret", read_secret}, {"ca-file", read_ca_file}, {"allow", read_allow}};

/* Read a line, which is empty, a comment, or a setting's name, blanks, and its value. */
static users_exit read_line(reading *r, char *line)
{
    char *name = line + strspn(line, BLANKS);
    char *value = name + strcspn(name, BLANKS);
    size_t length;

    if (*name == '\0' || *name == '#') {
        return USERS_EXIT_DONE;
    }
    if (*value) {
        *value++ = '\0';
        value += strspn(value, BLANKS);
    }
    for (length = strlen(value); length > 0 && strchr(BLANKS, value[length - 1]); length--) {
        value[length - 1] = '\0';
    }
    for (size_t i = 0; i < sizeof(settings) / sizeof(*settings); i++) {
        if (strcmp(name, settings[i].name) == 0) {
            return *value ? settings[i].read(r, value) : complain(r, "a value is missing");
        }
    }
    return complain(r, "a line must begin with url, secret, ca-file, allow or #");
}

static users_exit read_lines(reading *r, char *text)
{
    users_exit status = USERS_EXIT_DONE;

    while (text && status == USERS_EXIT_DONE) {
        char *end = strchr(text, '\n');

        if (end) {
            *end++ = '\0';
        }
        r->line++;
        status = read_line(r, text);
        text = end;
    }
    if (status != USERS_EXIT_DONE) {
        return status;
    }
    if (!r->endpoint->url || r->endpoint->secret_count == 0) {
        return users_output_complain(USERS_EXIT_USAGE, "%s has no %s", r->path,
                                     r->endpoint->url ? "secret" : "url");
    }
    if (r->is_http && !r->endpoint->allow_http) {
        r->line = r->url_line;
        return complain(r, "url must begin with https:// unless a line says allow http");
    }
    return USERS_EXIT_DONE;
}

/* The file */

/* As libpq wants a private key's file: ours alone, or root's, which a group of ours may read. */
static users_exit judge_file(const reading *r, const apr_finfo_t *info)
{
    const apr_fileperms_t of_others = APR_FPROT_WREAD | APR_FPROT_WWRITE | APR_FPROT_WEXECUTE |
                                      APR_FPROT_GWRITE | APR_FPROT_GEXECUTE;
    apr_uid_t user;
    apr_gid_t group;

    if (info->filetype != APR_REG) {
        return users_output_complain(USERS_EXIT_USAGE, "%s is not a file", r->path);
    }
    if (apr_uid_current(&user, &group, r->pool) != APR_SUCCESS ||
        (info->user != user && info->user != 0)) {
        return users_output_complain(
            USERS_EXIT_USAGE, "%s must belong to root or to the user who runs this", r->path);
    }
    if ((info->protection & of_others) ||
        ((info->protection & APR_FPROT_GREAD) && info->user != 0)) {
        return users_output_complain(USERS_EXIT_USAGE,
                                     "%s has secrets that others may read: chmod 0600, or 0640 "
                                     "where it belongs to root",
                                     r->path);
    }
    if (info->size > MAX_FILE_SIZE) {
        return users_output_complain(USERS_EXIT_USAGE, "%s is longer than %d octets", r->path,
                                     MAX_FILE_SIZE);
    }
    return USERS_EXIT_DONE;
}

static users_exit read_file(const reading *r, apr_file_t *file, char **text)
{
    apr_finfo_t info;
    apr_size_t length = 0;
    apr_status_t failed = apr_file_info_get(
        &info, APR_FINFO_SIZE | APR_FINFO_TYPE | APR_FINFO_USER | APR_FINFO_PROT, file);

    if (failed == APR_SUCCESS) {
        users_exit status = judge_file(r, &info);

        if (status != USERS_EXIT_DONE) {
            return status;
        }
        *text = apr_pcalloc(r->pool, (apr_size_t)info.size + 1);
        users_wipe_later(r->pool, *text, (apr_size_t)info.size);
        failed = apr_file_read_full(file, *text, (apr_size_t)info.size, &length);
        failed = failed == APR_EOF ? APR_SUCCESS : failed; /* it is empty */
    }
    if (failed != APR_SUCCESS) {
        char reason[128];

        return users_output_complain(USERS_EXIT_FAILED, "cannot read %s: %s", r->path,
                                     apr_strerror(failed, reason, sizeof(reason)));
    }
    if (strlen(*text) != length) {
        return users_output_complain(USERS_EXIT_USAGE, "%s is not a text", r->path);
    }
    return USERS_EXIT_DONE;
}

users_exit users_endpoint_read(apr_pool_t *pool, const char *path, users_endpoint *endpoint)
{
    reading r = {.pool = pool, .path = path, .endpoint = endpoint};
    apr_file_t *file;
    char *text = NULL;
    users_exit status;
    /* a named pipe would keep us waiting before we see that it is none */
    apr_status_t failed =
        apr_file_open(&file, path, APR_FOPEN_READ | APR_FOPEN_NONBLOCK, APR_FPROT_OS_DEFAULT, pool);

    *endpoint = (users_endpoint){0};
    if (failed != APR_SUCCESS) {
        char reason[128];

        return users_output_complain(USERS_EXIT_FAILED, "cannot read %s: %s", path,
                                     apr_strerror(failed, reason, sizeof(reason)));
    }
    status = read_file(&r, file, &text);
    apr_file_close(file);
    return status == USERS_EXIT_DONE ? read_lines(&r, text) : status;
}
