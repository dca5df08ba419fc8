#include "core/public.h"

#include "unit.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/un.h>

static bool is_public(const char *text)
{
    struct sockaddr_in ipv4 = {.sin_family = AF_INET};
    struct sockaddr_in6 ipv6 = {.sin6_family = AF_INET6};

    if (inet_pton(AF_INET, text, &ipv4.sin_addr) == 1) {
        return users_is_public((const struct sockaddr *)&ipv4);
    }
    assert_int_equal(inet_pton(AF_INET6, text, &ipv6.sin6_addr), 1);
    return users_is_public((const struct sockaddr *)&ipv6);
}

static void check(const char *const *texts, size_t count, bool wanted)
{
    for (size_t i = 0; i < count; i++) {
        if (is_public(texts[i]) != wanted) {
            fail_msg("%s is %s", texts[i], wanted ? "refused" : "taken");
        }
    }
}

/* The first and the last of each block that is not public, and what lies between them. */
static void refuses_what_is_not_public(void **state)
{
    static const char *const texts[] = {
        "0.0.0.0",
        "0.255.255.255",
        "10.0.0.0",
        "10.255.255.255",
        "100.64.0.0",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.255",
        "169.254.0.0",
        "169.254.169.254",
        "169.254.255.255",
        "172.16.0.0",
        "172.31.255.255",
        "192.0.0.0",
        "192.0.0.255",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.0",
        "192.168.255.255",
        "198.18.0.0",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        /* IPv6: unspecified, loopback, discarded, unique local, link-local, site-local, multicast
         */
        "::",
        "::1",
        "100::1",
        "fc00::1",
        "fdff:ffff::1",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "ff02::1",
        "ffff::1",
        /* protocols (Teredo, benchmarking, ORCHID), documentation, segment routing */
        "2001::1",
        "2001:2::1",
        "2001:20::1",
        "2001:1ff:ffff::1",
        "2001:db8::1",
        "2001:db8:ffff::1",
        "3fff::1",
        "3fff:fff:ffff::1",
        "5f00::1",
        /* what stands for an address of IPv4: mapped, compatible, NAT64, NAT64 of one's own, 6to4
         */
        "::ffff:127.0.0.1",
        "::ffff:10.1.2.3",
        "::127.0.0.1",
        "::8.8.8.8",
        "64:ff9b::127.0.0.1",
        "64:ff9b::192.168.1.1",
        "64:ff9b:1::8.8.8.8",
        "2002:7f00:1::1",
        "2002:c0a8:101::1",
    };

    (void)state;
    check(texts, COUNT(texts), false);
}

static void takes_what_is(void **state)
{
    static const char *const texts[] = {
        "1.0.0.0",          "9.255.255.255",   "11.0.0.0",         "100.63.255.255",
        "100.128.0.0",      "126.255.255.255", "128.0.0.0",        "169.253.255.255",
        "169.255.0.0",      "172.15.255.255",  "172.32.0.0",       "191.0.2.1",
        "192.0.1.0",        "192.0.3.0",       "192.167.255.255",  "192.169.0.0",
        "198.17.255.255",   "198.20.0.0",      "203.0.112.255",    "203.0.114.0",
        "223.255.255.255",  "8.8.8.8",         "2000::1",          "2001:200::1",
        "2001:db7:ffff::1", "2001:db9::1",     "2606:4700::1",     "3ffe:ffff::1",
        "3fff:1000::1",     "::ffff:8.8.8.8",  "64:ff9b::8.8.8.8", "2002:808:808::1",
    };

    (void)state;
    check(texts, COUNT(texts), true);
}

static void refuses_what_is_of_no_network(void **state)
{
    struct sockaddr_un local = {.sun_family = AF_UNIX, .sun_path = "/run/socket"};

    (void)state;
    assert_false(users_is_public((const struct sockaddr *)&local));
}

static const struct CMUnitTest tests[] = {
    cmocka_unit_test(refuses_what_is_not_public),
    cmocka_unit_test(takes_what_is),
    cmocka_unit_test(refuses_what_is_of_no_network),
};

UNIT_MAIN(tests)
