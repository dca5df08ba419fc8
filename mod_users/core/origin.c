#include "core/origin.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define DIGITS      "0123456789"
#define HOST_LIMIT  253 /* octets (RFC 1035 section 2.3.4, without the root) */
#define PORT_DIGITS 5
#define PORT_LIMIT  65535

/* The URL standard reads such a host as an IPv4 address, in whatever form. */
static bool ends_in_number(const char *host)
{
    const char *dot = strrchr(host, '.');
    const char *last = dot ? dot + 1 : host;

    if (strncmp(last, "0x", 2) == 0) {
        return !last[2 + strspn(last + 2, DIGITS "abcdef")];
    }
    return !last[strspn(last, DIGITS)];
}

/* Labels with a dot between them: what stays as it is on its way through a browser. */
static bool is_domain(const char *host)
{
    return !host[strspn(host, "abcdefghijklmnopqrstuvwxyz" DIGITS "-_.")] && *host != '.' &&
           !strstr(host, "..");
}

/* In its shortest form, without brackets. Where an IPv4 address is part of it, nobody serves pages.
 */
static bool is_ipv6(const char *host)
{
    struct in6_addr address;
    char written[INET6_ADDRSTRLEN];

    return inet_pton(AF_INET6, host, &address) == 1 &&
           inet_ntop(AF_INET6, &address, written, sizeof(written)) && strcmp(host, written) == 0;
}

static bool is_host(const char *start, size_t length)
{
    char host[HOST_LIMIT + 1];
    struct in_addr address;
    bool bracketed = length > 2 && start[0] == '[' && start[length - 1] == ']';

    if (bracketed) {
        start++;
        length -= 2;
    }
    if (length == 0 || length > HOST_LIMIT) {
        return false;
    }
    memcpy(host, start, length);
    host[length] = '\0';
    if (bracketed) {
        return is_ipv6(host);
    }
    return ends_in_number(host) ? inet_pton(AF_INET, host, &address) == 1 : is_domain(host);
}

/* Not the scheme's own, which is left out. */
static bool is_port(const char *text, long own)
{
    size_t digits = strspn(text, DIGITS);
    long port = strtol(text, NULL, 10);

    return digits > 0 && digits <= PORT_DIGITS && !text[digits] && *text != '0' &&
           port <= PORT_LIMIT && port != own;
}

bool users_origin_is_serialised(const char *text)
{
    bool tls = strncmp(text, "https://", 8) == 0;
    const char *host = text + (tls ? 8 : 7);
    size_t length;

    if (!tls && strncmp(text, "http://", 7) != 0) {
        return false;
    }
    length = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");
    if (length > strlen(host)) {
        return false; /* no bracket closes */
    }
    return is_host(host, length) &&
           (!host[length] || (host[length] == ':' && is_port(host + length + 1, tls ? 443 : 80)));
}
