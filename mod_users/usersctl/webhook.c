#include "usersctl/webhook.h"

#include "core/public.h"

#include <apr_encode.h>
#include <apr_strings.h>
#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>
#include <sys/socket.h>

#define ANSWER_MAX 65536 /* octets of headers and body, behind which the connection is closed */

struct users_webhook {
    const users_endpoint *endpoint;
    long timeout; /* milliseconds */
    CURLM *multi;
};

struct users_sending {
    CURL *easy;
    struct curl_slist *headers;
    const users_endpoint *endpoint;
    apr_size_t received;
    char refused[INET6_ADDRSTRLEN]; /* an address that was not connected to; "": none */
    char error[CURL_ERROR_SIZE];
};

/* Signature */

/* v1,BASE64 of each secret with a blank between them; NULL where libcrypto fails. */
static const char *sign(const users_endpoint *endpoint, const users_message *message,
                        const char *timestamp)
{
    const char *content =
        apr_pstrcat(message->pool, message->id, ".", timestamp, ".", message->body, NULL);
    const char *signatures = "";

    for (int i = 0; i < endpoint->secret_count; i++) {
        const users_endpoint_secret *secret = &endpoint->secrets[i];
        unsigned char digest[EVP_MAX_MD_SIZE];
        unsigned length;

        if (!HMAC(EVP_sha256(), secret->key, (int)secret->length, (const unsigned char *)content,
                  strlen(content), digest, &length)) {
            return NULL;
        }
        signatures = apr_pstrcat(
            message->pool, signatures, i ? " v1," : "v1,",
            apr_pencode_base64_binary(message->pool, digest, length, APR_ENCODE_NONE, NULL), NULL);
    }
    return signatures;
}

/* libcurl's side */

/* What is received is counted, and not kept. */
static size_t discard(const char *bytes, size_t size, size_t count, void *data)
{
    struct users_sending *sending = data;

    (void)bytes;
    sending->received += size * count;
    return sending->received > ANSWER_MAX ? 0 : size * count;
}

/* The address is the one that is connected to, whatever a name's look-up said before. */
static curl_socket_t open_socket(void *data, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct users_sending *sending = data;
    const struct sockaddr *peer = &address->addr;

    (void)purpose;
    if (!sending->endpoint->allow_private && !users_is_public(peer)) {
        const void *number = peer->sa_family == AF_INET6
                                 ? (const void *)&((const struct sockaddr_in6 *)peer)->sin6_addr
                                 : (const void *)&((const struct sockaddr_in *)peer)->sin_addr;

        inet_ntop(peer->sa_family, number, sending->refused, sizeof(sending->refused));
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static bool add_header(struct users_sending *sending, const char *header)
{
    struct curl_slist *longer = curl_slist_append(sending->headers, header);

    sending->headers = longer ? longer : sending->headers;
    return longer != NULL;
}

static bool set_headers(const users_webhook *webhook, const users_message *message)
{
    apr_pool_t *pool = message->pool;
    const char *timestamp = apr_psprintf(pool, "%" APR_TIME_T_FMT, apr_time_sec(apr_time_now()));
    const char *signatures = sign(webhook->endpoint, message, timestamp);
    struct users_sending *sending = message->sending;

    return signatures && add_header(sending, "Content-Type: application/json") &&
           add_header(sending, "Expect:") && /* the body is short */
           add_header(sending, apr_pstrcat(pool, "webhook-id: ", message->id, NULL)) &&
           add_header(sending, apr_pstrcat(pool, "webhook-timestamp: ", timestamp, NULL)) &&
           add_header(sending, apr_pstrcat(pool, "webhook-signature: ", signatures, NULL)) &&
           curl_easy_setopt(sending->easy, CURLOPT_HTTPHEADER, sending->headers) == CURLE_OK;
}

/* Set options; OR of what that returns, which is 0 where all are set. */
static unsigned set_options(const users_webhook *webhook, users_message *message)
{
    const users_endpoint *endpoint = webhook->endpoint;
    struct users_sending *sending = message->sending;
    CURL *easy = sending->easy;
    unsigned wrong = 0;

    wrong |= curl_easy_setopt(easy, CURLOPT_PRIVATE, message);
    wrong |= curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, sending->error);
    wrong |= curl_easy_setopt(easy, CURLOPT_URL, endpoint->url);
    wrong |= curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    wrong |= curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    wrong |= curl_easy_setopt(easy, CURLOPT_PROXY, ""); /* none of the environment's either */
    wrong |= curl_easy_setopt(easy, CURLOPT_USERAGENT, "mod_users/" USERS_VERSION);
    wrong |= curl_easy_setopt(easy, CURLOPT_POSTFIELDS, message->body);
    wrong |= curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)strlen(message->body));
    wrong |= curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    wrong |= curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, webhook->timeout);
    wrong |= curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, webhook->timeout);
    wrong |= curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    wrong |= curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, sending);
    wrong |= curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, discard);
    wrong |= curl_easy_setopt(easy, CURLOPT_WRITEDATA, sending);
    wrong |= curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, discard);
    wrong |= curl_easy_setopt(easy, CURLOPT_HEADERDATA, sending);
    wrong |= curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (endpoint->ca_file) {
        wrong |= curl_easy_setopt(easy, CURLOPT_CAINFO, endpoint->ca_file);
        wrong |= curl_easy_setopt(easy, CURLOPT_CAPATH, NULL); /* the system's */
    }
    return wrong;
}

/* The end of a message */

/* Errors of TLS may have parts of a certificate in them. */
static const char *printable(apr_pool_t *pool, const char *text)
{
    char *copy = apr_pstrndup(pool, text, 250);

    for (char *c = copy; *c; c++) {
        if (*c < ' ' || *c > '~') {
            *c = '?';
        }
    }
    return copy;
}

static const char *failure_of(const users_message *message, CURLcode result)
{
    const struct users_sending *sending = message->sending;
    /* whatever becomes of its body */
    bool is_answer = result == CURLE_OK || message->status >= 200 || sending->received > ANSWER_MAX;

    if (is_answer && message->status >= 200 && message->status <= 299) {
        return NULL;
    }
    if (is_answer && message->status >= 300 && message->status <= 399) {
        return apr_psprintf(message->pool, "status %ld, and redirects are not followed",
                            message->status);
    }
    if (is_answer) {
        return apr_psprintf(message->pool, "status %ld", message->status);
    }
    if (*sending->refused) {
        return apr_psprintf(message->pool,
                            "%s is not a public address, and no line says allow private",
                            sending->refused);
    }
    return printable(message->pool, *sending->error ? sending->error : curl_easy_strerror(result));
}

static void end(users_message *message, CURLcode result)
{
    struct users_sending *sending = message->sending;
    curl_off_t retry_after = 0;

    if (sending->easy) {
        curl_easy_getinfo(sending->easy, CURLINFO_RESPONSE_CODE, &message->status);
        curl_easy_getinfo(sending->easy, CURLINFO_RETRY_AFTER, &retry_after);
    }
    message->retry_after = apr_time_from_sec(retry_after < 0          ? 0
                                             : retry_after > 31536000 ? 31536000
                                                                      : retry_after);
    message->failure = failure_of(message, result);
    message->ended = true;
    curl_easy_cleanup(sending->easy);
    curl_slist_free_all(sending->headers);
}

static apr_status_t clean_up(void *data)
{
    users_webhook *webhook = data;

    curl_multi_cleanup(webhook->multi);
    curl_global_cleanup();
    return APR_SUCCESS;
}

users_webhook *users_webhook_create(apr_pool_t *pool, const users_endpoint *endpoint, int parallel,
                                    apr_interval_time_t timeout)
{
    users_webhook *webhook = apr_pcalloc(pool, sizeof(*webhook));

    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        return NULL;
    }
    *webhook = (users_webhook){.endpoint = endpoint,
                               .timeout = (long)apr_time_as_msec(timeout),
                               .multi = curl_multi_init()};
    apr_pool_cleanup_register(pool, webhook, clean_up, apr_pool_cleanup_null);
    if (webhook->multi) {
        curl_multi_setopt(webhook->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)parallel);
    }
    return webhook->multi ? webhook : NULL;
}

void users_webhook_send(users_webhook *webhook, users_message *message)
{
    struct users_sending *sending = apr_pcalloc(message->pool, sizeof(*sending));

    sending->endpoint = webhook->endpoint;
    sending->easy = curl_easy_init();
    message->sending = sending;
    if (!sending->easy || set_options(webhook, message) != 0 || !set_headers(webhook, message) ||
        curl_multi_add_handle(webhook->multi, sending->easy) != CURLM_OK) {
        end(message, CURLE_OUT_OF_MEMORY);
    }
}

/* Go on with all of them. Returns how many have ended. */
static int perform(users_webhook *webhook)
{
    const CURLMsg *told;
    int count;
    int ended = 0;

    curl_multi_perform(webhook->multi, &count);
    while ((told = curl_multi_info_read(webhook->multi, &count)) != NULL) {
        CURLcode result = told->data.result;
        CURL *easy = told->easy_handle;
        users_message *message = NULL;

        curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&message);
        curl_multi_remove_handle(webhook->multi, easy);
        end(message, result);
        ended++;
    }
    return ended;
}

void users_webhook_run(users_webhook *webhook, apr_interval_time_t wait)
{
    if (perform(webhook) == 0) {
        curl_multi_poll(webhook->multi, NULL, 0, (int)apr_time_as_msec(wait), NULL);
        perform(webhook);
    }
}
